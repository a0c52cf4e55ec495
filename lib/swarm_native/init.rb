# frozen_string_literal: true

module SwarmNative
  # The first process of a container, or a subreaper: who has to take in, and to reap, processes whose parents have
  # died.
  #
  # A process cannot tell such strangers from children of its own that somebody is about to `Process.wait` for: the
  # kernel keeps no record of it. So it is not the supervisor that reaps them. {start} leaves an init behind and goes on
  # in a child, whose children are its own alone.
  module Init
    # What is not passed on: Ruby's own, what tells of a fault in this very process, and what nobody can trap.
    OWN = %w[EXIT KILL STOP CHLD VTALRM PROF SEGV BUS ILL FPE TRAP SYS ABRT PIPE XCPU XFSZ]
          .map { |name| Signal.list[name] }.freeze

    # What shells and container runtimes add to a signal for the exit status of who was ended by it.
    SIGNALED = 128
    private_constant :OWN, :SIGNALED

    # @!method self.adopts?
    #   @return [Boolean] true where processes whose parents have died become children of this one

    # @!method self.subreaper=(on)
    #   @param on [Boolean] whether processes whose parents have died shall become children of this one, which else they
    #     do of PID 1. It holds for this process, not for its children

    class << self
      # Where this process is PID 1 or a subreaper: stays behind as an init and lets the program go on in a child. The
      # init passes signals on, reaps every child, and ends as the program did. Elsewhere nothing happens.
      #
      # Call it first thing: the child has the thread that calls alone, and nothing that was opened is needed twice.
      #
      # @return [Boolean] true: this is the child
      # @raise [Error] other threads are running already
      # @raise [ForkRefused] a librdkafka handle is live
      # @example
      #   require "swarm_native"
      #   SwarmNative::Init.start
      #   require_relative "my_app"
      #   SwarmNative::Supervisor.new(nodes: 4).run { |node| MyApp.work(node) }
      def start
        return false unless adopts?

        others = Thread.list - [Thread.current]
        unless others.empty?
          raise Error, "Init.start has to come before other threads: #{others.map(&:inspect).join(", ")} would be " \
                       "missing in the program"
        end

        go_on_in_a_child
      end

      private

      # Held back meanwhile are the signals of the kernel; what Ruby has taken in already, the fork copies.
      def go_on_in_a_child
        owner = Process.pid
        program = nil
        early = []
        hold_signals
        found = trap_all do |signal|
          # In the child it does nothing: a signal that was meant for this process is passed on by this process.
          next unless Process.pid == owner

          program ? pass_on(signal, program) : early << signal
        end
        begin
          program = Process.fork
        rescue StandardError
          put_back(found)
          raise
        end
        if program
          trap(:CLD, "DEFAULT") # who ignores it learns of no end
          release_signals
          early.each { |signal| pass_on(signal, program) }
          leave_as(reap_until(program))
        else
          take_up_what_was_copied
          put_back(found)
        end
        true
      ensure
        release_signals
      end

      # @return [Hash{String => Object}] what was there before
      def trap_all(&block)
        Signal.list.reject { |_, number| OWN.include?(number) }.invert.values.each_with_object({}) do |signal, found|
          # nil: a handler that is not Ruby's stood there, which Ruby cannot put back.
          found[signal] = trap(signal) { block.call(signal) } || "SYSTEM_DEFAULT"
        rescue ArgumentError
          next # reserved by this Ruby
        end
      end

      def put_back(found)
        found.each { |signal, handler| trap(signal, handler) }
      end

      # Ruby looks at all of it when it has a signal from itself.
      def take_up_what_was_copied
        sleep 0
        Process.kill(:TERM, Process.pid)
      end

      def pass_on(signal, program)
        Process.kill(signal, program)
      rescue Errno::ESRCH
        nil # it has ended, which the next wait tells
      end

      # @return [Process::Status] of the program
      def reap_until(program)
        loop do
          pid, status = Process.wait2(-1)
          return status if pid == program
        end
      end

      def leave_as(status)
        exit!(status.signaled? ? SIGNALED + status.termsig : status.exitstatus)
      end
    end
  end
end
