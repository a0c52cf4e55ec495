# frozen_string_literal: true

module SwarmNative
  # How a process ended. Answers like Ruby's Process::Status, and can also say that nobody knows ({#unknown?}).
  #
  # @example
  #   pidfd = SwarmNative::Pidfd.new(Process.spawn("exit 3"))
  #   status = pidfd.cleanup
  #   status.exitstatus # => 3
  #   status.to_s       # => "pid 4711 exit 3"
  class ExitStatus
    # The bit of a raw status that says that a core file was written.
    CORE_DUMPED = 0x80
    private_constant :CORE_DUMPED

    # @return [Integer] the pid that the process had
    attr_reader :pid

    # @return [Integer, nil] the raw status of wait(2), nil where it is unknown
    attr_reader :to_i

    # @api private
    # @param pid [Integer]
    # @param raw [Integer, nil] the raw status of wait(2), of a process that has ended
    def initialize(pid, raw)
      @pid = pid
      @to_i = raw
      freeze
    end

    # @return [Boolean] true when the process has ended, and nobody can say how: other code reaped it, or it was not a
    #   child of this process, and the kernel keeps no record (it does from Linux 6.15 on)
    def unknown?
      to_i.nil?
    end

    # @return [Boolean] true when it left by itself, with an {#exitstatus}
    def exited?
      !unknown? && to_i.nobits?(0x7f)
    end

    # @return [Integer, nil] 0 to 255, nil unless {#exited?}
    def exitstatus
      (to_i >> 8) & 0xff if exited?
    end

    # @return [Boolean] true when a signal ended it
    def signaled?
      !unknown? && to_i.anybits?(0x7f)
    end

    # @return [Integer, nil] the signal's number, nil unless {#signaled?}
    def termsig
      to_i & 0x7f if signaled?
    end

    # @return [Boolean] true when the kernel wrote a core file
    def coredump?
      signaled? && to_i.anybits?(CORE_DUMPED)
    end

    # @return [Boolean, nil] true for exit code 0, nil where there is no exit code
    def success?
      exitstatus.zero? if exited?
    end

    # @return [false] it has ended
    def stopped?
      false
    end

    # @return [nil] it has ended
    def stopsig
      nil
    end

    # @return [String] such as "pid 4711 exit 3", "pid 4711 SIGKILL (signal 9)", "pid 4711 unknown"
    def to_s
      "pid #{pid} #{reason}"
    end

    # @return [String]
    def inspect
      "#<#{self.class}: #{self}>"
    end

    # @param other [ExitStatus, Process::Status, Object]
    # @return [Boolean] whether the same process ended in the same way
    def ==(other)
      case other
      when ExitStatus, Process::Status then pid == other.pid && to_i == other.to_i
      else false
      end
    end

    # @return [Boolean] as {#==}, among ExitStatus alone
    def eql?(other)
      other.instance_of?(self.class) && self == other
    end

    # @return [Integer]
    def hash
      [self.class, pid, to_i].hash
    end

    # For pattern matching: `case status in { exitstatus: 0 } ...`
    # @return [Hash{Symbol => Object}]
    def deconstruct_keys(_keys)
      { pid: pid, exitstatus: exitstatus, termsig: termsig, coredump: coredump?, unknown: unknown? }
    end

    private

    def reason
      return "unknown" if unknown?
      return "exit #{exitstatus}" if exited?

      name = Signal.signame(termsig)
      "#{name ? "SIG#{name} (signal #{termsig})" : "signal #{termsig}"}#{' (core dumped)' if coredump?}"
    end
  end
end
