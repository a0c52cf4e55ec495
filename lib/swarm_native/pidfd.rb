# frozen_string_literal: true

require "io/wait"
require_relative "deadline"
require_relative "exit_status"

module SwarmNative
  # A handle on one process that can never mean another one: pids are given to new processes once their process was
  # reaped, a pidfd stays with the process that it was opened for.
  #
  # It refers to any process, not only to children; but only a child's end can be reaped ({#cleanup}). A handle that is
  # inherited by a forked process goes on working there, where the process that it stands for is no child.
  #
  # What is once known stays known: {#alive?}, {#signal}, {#wait} and {#cleanup} answer for a process that has ended also
  # after the handle was closed.
  #
  # Methods may be called from several threads and fibers at once.
  #
  # @example Stop a process and say how it ended
  #   pidfd = SwarmNative::Pidfd.new(Process.spawn("sleep", "60"))
  #   pidfd.alive?         # => true
  #   pidfd.signal("TERM") # => true
  #   pidfd.cleanup(5.0)   # => #<SwarmNative::ExitStatus: pid 4711 SIGTERM (signal 15)>
  #   pidfd.signal("TERM") # => false, whoever has the pid by now
  class Pidfd
    # How long to ask the kernel for the end of a process that others reap. It tells some microseconds after the pidfd
    # has turned readable, and at once or never where they are slow to reap.
    RECORD_PATIENCE = 0.010
    private_constant :RECORD_PATIENCE

    RECORD_INTERVAL = 0.000_05
    private_constant :RECORD_INTERVAL

    # How often to ask for an end that is there, but that a debugger still holds back.
    HELD_BACK_INTERVAL = 0.001
    private_constant :HELD_BACK_INTERVAL

    # @!method self.supported?
    #   @return [Boolean] true where the kernel has all that a Pidfd needs (Linux 5.4, no seccomp filter against it)

    # @!method self.new(pid)
    #   Opens the process that has the pid now. That is certainly the meant one for a child that was not reaped yet.
    #   @param pid [Integer]
    #   @raise [Errno::ESRCH] when there is no such process
    #   @raise [TypeError, ArgumentError] when it is no pid, or that of a thread
    #   @raise [Errno::ENOSYS] unless {.supported?}
    #   @raise [Errno::EMFILE] when the process has no descriptor left

    # @!method pid
    #   @return [Integer] the pid that the process has, or had

    # @!method alive?
    #   Never blocks.
    #   @return [Boolean] false once the process has ended, reaped or not
    #   @raise [ClosedHandle] when closed before its end was seen

    # @!method signal(name)
    #   Never reaches another process.
    #   @param name [String, Symbol, Integer] such as "TERM", "SIGTERM", :TERM or 15
    #   @return [Boolean] true: sent; false: it had already ended, reaped or not
    #   @raise [ArgumentError, TypeError] when there is no such signal
    #   @raise [Errno::EPERM] when the kernel does not permit it
    #   @raise [ClosedHandle] when closed before its end was seen

    # @!method closed?
    #   @return [Boolean]

    # Waits until the process has ended. Leaves a child as a zombie that can still be reaped, by {#cleanup},
    # `Process.wait` or anybody else. Other threads run meanwhile, a Fiber scheduler runs its other fibers, and
    # Thread#raise, Timeout and signals interrupt the wait.
    #
    # @param timeout [Numeric, nil] seconds; nil waits as long as it takes, 0 only looks
    # @return [ExitStatus, nil] nil when the process has not ended in time. For one that is no child, or that other code
    #   has reaped, the kernel's own record, or where it keeps none a status that answers true to `unknown?`
    # @raise [ClosedHandle] when closed before the end of the process was seen, also by another thread meanwhile
    def wait(timeout = nil)
      deadline = Deadline.new(timeout)
      @status || await(deadline)
    end

    # Waits until the process has ended, reaps it where it is a child, and closes the handle.
    #
    # @param timeout [Numeric, nil] seconds; nil waits as long as it takes, 0 only looks
    # @return [ExitStatus, nil] as {#wait}; the same one at each later call. nil when the process has not ended in time:
    #   the handle stays open then
    # @raise [ClosedHandle] when closed before the end of the process was seen, also by another thread meanwhile
    def cleanup(timeout = nil)
      deadline = Deadline.new(timeout)
      status = @status || await(deadline) or return
      raw = reap
      @status ||= raw ? ExitStatus.new(pid, raw) : status
      close
      @status
    end

    # For `IO.select` and event loops: readable once the process has ended.
    # @return [IO] the same one at each call; closed together with the handle
    # @raise [ClosedHandle]
    def to_io
      @io = open_io if @io.nil? || @io.closed?
      @io
    end

    # Gives the descriptor back to the system. Leaves the process alone, and does not reap it. Threads and fibers that
    # wait get a {ClosedHandle}. Closing twice is closing once.
    # @return [nil]
    def close
      close_handle
      @io&.close
      nil
    end

    # @return [String]
    def inspect
      state = @status ? @status.to_s.delete_prefix("pid #{pid} ") : state_word
      "#<#{self.class} pid=#{pid} #{state}>"
    end

    private

    def state_word
      alive? ? "alive" : "ended"
    rescue ClosedHandle
      "closed"
    end

    # The status, or nil at the deadline.
    def await(deadline)
      while (raw = ask(false)).nil?
        return if deadline.passed?

        alive? ? await_readable(deadline.left) : sleep(HELD_BACK_INTERVAL)
      end
      raw ||= await_record
      raw ? @status = ExitStatus.new(pid, raw) : ExitStatus.new(pid, nil)
    rescue ClosedHandle
      # By `cleanup` in another thread, which has left the status.
      @status or raise
    end

    def reap
      ask(true)
    rescue ClosedHandle
      nil
    end

    # Each waiter has an IO of its own, which nobody else closes or waits for.
    def await_readable(timeout)
      waiter = open_waiter
      waiter.wait_readable(timeout)
    ensure
      if waiter
        waiter.close
        close_waiter
      end
    end

    # Asks once more when the time is up: under load it may be up before the second try.
    def await_record
      deadline = Deadline.new(RECORD_PATIENCE)
      loop do
        last = deadline.passed?
        raw = record
        return raw if raw || last

        sleep RECORD_INTERVAL
      end
    end
  end
end
