# frozen_string_literal: true

module SwarmNative
  # The signal handlers of a process that supervises, and those of its nodes.
  #
  # A process has one handler a signal, so two supervisors in two threads share them: the first to run puts them in
  # place, the last puts back what it found. A handler does nothing in another process than the one that it was made
  # for: a signal that Ruby had taken in but not yet handled at the fork is handled again in the child.
  #
  # @api private
  module Traps
    STOP = %w[TERM INT QUIT].freeze
    SIGNALS = [*STOP, "TSTP", "HUP", "TTIN"].freeze

    @lock = Mutex.new
    @supervisors = [].freeze
    @found = {}

    class << self
      # @yieldparam signal [String] in a trap handler: no locks, no logging
      def install(supervisor)
        @lock.synchronize do
          put_in_place if @supervisors.empty?
          # Replaced, never changed: a handler may run at any moment.
          @supervisors = [*@supervisors, supervisor].freeze
        end
      end

      def remove(supervisor)
        @lock.synchronize do
          @supervisors = (@supervisors - [supervisor]).freeze
          put_back if @supervisors.empty?
        end
      end

      # In a child, while signals are held back: handlers of the node's own, each followed by what the user had trapped
      # before the supervisor ran.
      def hand_over(node)
        # The supervisor's handlers run what the fork copied, and do nothing, since the pid differs: a signal to oneself
        # has Ruby look at all that it has taken in, at once.
        trapped = SIGNALS.find { |signal| @found[signal] != "IGNORE" }
        Process.kill(trapped, Process.pid) if trapped
        @supervisors = [].freeze
        SIGNALS.each do |signal|
          found = @found[signal]
          next if found == "IGNORE"

          trap(signal) do |number|
            node.signaled(signal)
            found.call(number) if found.respond_to?(:call)
          end
        end
      end

      private

      def put_in_place
        owner = Process.pid
        SIGNALS.each do |signal|
          found = trap(signal) { |number| handle(owner, signal, number) }
          @found[signal] = found
          # Who starts a program with nohup wants it to outlive its terminal.
          trap(signal, "IGNORE") if found == "IGNORE"
        end
      end

      def put_back
        # nil: a handler that is not Ruby's stood there, which Ruby cannot put back.
        @found.each { |signal, found| trap(signal, found || "SYSTEM_DEFAULT") }
        @found = {}
      end

      def handle(owner, signal, number)
        return unless Process.pid == owner

        @supervisors.each { |supervisor| supervisor.signaled(signal) }
        found = @found[signal]
        found.call(number) if found.respond_to?(:call)
      end
    end
  end
end
