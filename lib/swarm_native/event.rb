# frozen_string_literal: true

require_relative "exit_status"

module SwarmNative
  # Something that happened in a swarm. Immutable. What does not apply is nil.
  #
  # | name | when |
  # |---|---|
  # | `:node_started` | a process was forked |
  # | `:node_ready` | it has booted; `duration` is how long that took |
  # | `:node_unhealthy` | it reported a code above 0, nothing in time, or was not ready in time: see `reason` |
  # | `:node_stopping` | it was told to stop |
  # | `:node_killed` | it did not stop in time and was killed |
  # | `:node_exited` | it ended; `exit_status`, `reason`, `duration` of its life, `restart_in` seconds |
  # | `:crash_loop` | the slot's nodes die again and again; said once |
  # | `:replacement_waits` | it is to be replaced (`reason`), and waits for slots that do not get ready; said once |
  # | `:quieting` | nodes fetch no more, nothing is restarted |
  # | `:restarting`, `:restarted` | a rolling restart begins, is done |
  # | `:stopping`, `:stopped` | the swarm stops, all nodes have ended |
  # | `:error` | something failed that the swarm survives: `message`, and `error` where Ruby raised one |
  class Event
    NAMES = %i[node_started node_ready node_unhealthy node_stopping node_killed node_exited crash_loop
               replacement_waits quieting restarting restarted stopping stopped error].freeze

    # @return [Symbol] one of {NAMES}
    attr_reader :name
    # @return [Integer, nil] the node, from 0
    attr_reader :node_id
    # @return [Integer, nil] its process
    attr_reader :pid
    # @return [String, nil] why, in a word: "stopped", "restart", "scaled_down", "unhealthy(3)", "hung",
    #   "boot_timeout", "memory_limit", "max_lifetime", "exited", "crashed", "killed", "oom_killed" or "unknown"
    attr_reader :reason
    # @return [ExitStatus, nil] how the process ended
    attr_reader :exit_status
    # @return [Float, nil] seconds
    attr_reader :duration
    # @return [Float, nil] seconds until the replacement is forked; nil where none will be
    attr_reader :restart_in
    # @return [String, nil] the same for a person, where the other values do not say it; for `:node_exited` what was
    #   raised in the node, with its backtrace
    attr_reader :message
    # @return [Integer, nil] the bytes that were too many, where the reason is "memory_limit"
    attr_reader :memory
    # @return [String, nil] what the process was doing when it did not do as it should: "frozen (SIGSTOP)", "busy on the
    #   processor", "waiting for a lock" or "waiting" in the first line, then its threads as the kernel sees them, then
    #   their Ruby backtraces if it could still answer. With `:node_unhealthy`, `:node_killed` and `:node_exited`
    attr_reader :diagnosis
    # @return [Exception, nil] what was raised
    attr_reader :error
    # @return [Float] when it was told, in seconds of the monotonic clock
    attr_reader :time

    # @api private
    def initialize(name:, node_id: nil, pid: nil, reason: nil, exit_status: nil, duration: nil, restart_in: nil,
                   message: nil, memory: nil, diagnosis: nil, error: nil)
      @name = name
      @node_id = node_id
      @pid = pid
      @reason = reason&.freeze
      @exit_status = exit_status
      @duration = duration
      @restart_in = restart_in
      @message = message&.freeze
      @memory = memory
      @diagnosis = diagnosis&.freeze
      @error = error
      @time = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      freeze
    end

    # One line, for a log.
    def to_s
      "#{subject}#{what}"
    end

    def inspect
      "#<#{self.class} #{name}: #{self}>"
    end

    private

    def subject
      return "" unless node_id

      pid ? "node #{node_id} (pid #{pid}) " : "node #{node_id} "
    end

    def what
      case name
      when :node_started then "started"
      when :node_ready then "ready after #{seconds(duration)}"
      when :node_unhealthy then "unhealthy: #{reason}#{seen}"
      when :node_stopping then "told to stop: #{reason}#{megabytes}"
      when :node_killed then "killed, since it did not stop in time (#{reason})#{seen}"
      when :node_exited then "ended after #{seconds(duration)}: #{reason}#{exit_words}#{comes_back}#{first_line}"
      when :crash_loop then "is in a crash loop: its last process ended #{reason}#{exit_words}#{comes_back}"
      when :replacement_waits then "waits to be replaced (#{reason}): #{message}"
      when :quieting then "swarm is quiet: nodes fetch no more, nothing is restarted"
      when :restarting then "rolling restart begins"
      when :restarted then "rolling restart is done"
      when :stopping then "swarm stops"
      when :stopped then "swarm has stopped"
      when :error then message.to_s
      end
    end

    def seen
      diagnosis ? "; it is #{diagnosis.lines.first.chomp}" : ""
    end

    def first_line
      message ? "; #{message.lines.first.chomp}" : ""
    end

    def megabytes
      memory ? ", #{memory / 1_048_576} MiB" : ""
    end

    def exit_words
      return "" unless exit_status
      return " (status unknown)" if exit_status.unknown?
      return " (exit #{exit_status.exitstatus})" if exit_status.exited?

      name = Signal.signame(exit_status.termsig)
      " (#{name ? "SIG#{name}" : "signal #{exit_status.termsig}"}#{", core dumped" if exit_status.coredump?})"
    end

    def comes_back
      return "" unless restart_in

      restart_in.zero? ? ", replaced at once" : ", replaced in #{seconds(restart_in)}"
    end

    def seconds(value)
      value < 1 ? "#{(value * 1000).round} ms" : "#{value.round(1)} s"
    end
  end
end
