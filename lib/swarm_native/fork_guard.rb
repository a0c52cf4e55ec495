# frozen_string_literal: true

require_relative "version"
require_relative "errors"
require_relative "library"
require_relative "fork_guard/live_handle"
require_relative "fork_guard/rdkafka"
require_relative "fork_guard/census"
require_relative "fork_guard/refusal"
require_relative "fork_guard/quiesce"

module SwarmNative
  # No fork while a librdkafka handle is live, whoever made it: this gem, karafka-rdkafka (WaterDrop, Karafka),
  # rdkafka-ruby (racecar), or any other library in the process.
  #
  # Requiring this file (or all of `swarm_native`) is enough: from then on Kernel#fork, Process.fork, IO.popen("-") and
  # Process.daemon raise {ForkRefused} while a handle is live. What execs (spawn, system, backticks, IO.popen of a
  # command) is safe and not looked at.
  #
  # @example
  #   require "swarm_native"
  #   producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:9092")
  #   fork { } # raises SwarmNative::ForkRefused, which names the producer and the line that made it
  #   producer.close
  #   fork { } # forks
  module ForkGuard
    # What {mode} may be.
    MODES = %i[raise warn off].freeze

    # Which thread is inside {bypass}, and in which process: a child that it forks is not.
    BYPASS = :swarm_native_fork_guard_bypass
    private_constant :BYPASS, :Core

    class << self
      # @!method safe?
      #   @return [Boolean] true if nothing is live, so that a fork would be permitted now; waits for nothing

      # @!method check!
      #   Does what a fork does first: waits for handles that are about to go, and raises if one stays. Whatever the mode.
      #   @return [nil]
      #   @raise [ForkRefused]

      # @!method gate_timeout
      #   @return [Float] for how many seconds a fork waits for handles that are being made or closed by other threads,
      #     1.0 unless set

      # @!method gate_timeout=(seconds)
      #   @param seconds [Numeric] 0 or more
      #   @raise [ArgumentError]

      # @return [Symbol] `:raise`, `:warn` or `:off`
      def mode
        MODES[Core.mode_index]
      end

      # @param mode [Symbol] `:raise` (default): a fork beside a live handle raises {ForkRefused}; `:warn`: it happens, and
      #   each place in the program that does so is warned of once; `:off`: it happens. In the child the inherited
      #   handles of this gem, karafka-rdkafka and rdkafka-ruby are made harmless in every mode.
      # @raise [ArgumentError] for anything else
      def mode=(mode)
        index = MODES.index(mode)
        raise ArgumentError, "mode must be :raise, :warn or :off, not #{mode.inspect}" unless index

        Core.mode_index = index
      end

      # Lets this thread fork beside live handles while the block runs: for code that execs at once or knows what it does.
      #
      # @yield
      # @return what the block returns
      # @example
      #   SwarmNative::ForkGuard.bypass { fork { exec "true" } }
      def bypass
        thread = Thread.current
        before = thread.thread_variable_get(BYPASS)
        counted = false
        begin
          Core.count_bypass(true)
          counted = true
          thread.thread_variable_set(BYPASS, Process.pid)
          yield
        ensure
          thread.thread_variable_set(BYPASS, before)
          Core.count_bypass(false) if counted
        end
      end

      # Closes what can be closed and opened again, and runs the block, which forks. Producers of this gem deliver what
      # they have queued and are opened again by their next use in this process, for which other threads wait until the
      # block is over, up to {gate_timeout}; producers of WaterDrop are disconnected, and connect again by themselves.
      # Anything else that is live refuses the fork as always, before any is disturbed.
      #
      # @param timeout [Numeric] seconds that delivering may take, of all producers together
      # @yield with nothing live
      # @return what the block returns
      # @raise [ForkRefused] something is live that cannot be closed, or was not in time
      # @example
      #   pid = SwarmNative::ForkGuard.quiesce { fork { work } }
      def quiesce(timeout: 10.0, &block)
        Quiesce.run(Float(timeout), &block)
      end

      # What stands in the way of a fork now.
      #
      # @return [Array<LiveHandle>] ours, those of other bindings by their Ruby objects where there are such, and the rest
      def live_handles
        Census.take
      end

      # Has the place that makes a handle of karafka-rdkafka, rdkafka-ruby or WaterDrop remembered, so that a refusal can
      # name it. Happens by itself for a binding that was loaded before this file; call it after one is loaded later.
      #
      # @return [Boolean] whether such a binding is there
      def remember_places
        Rdkafka.install
      end

      private

      # Waits until no other thread is inside {quiesce}, though not for ever.
      def after_quiesce
        Quiesce.wait_until_over
      end

      # The line outside of this gem, and of the bindings, that is running.
      def place
        Core.place
      end

      # Called by the library: whether this thread is inside {bypass}.
      def bypassed?
        Thread.current.thread_variable_get(BYPASS) == Process.pid
      end

      # Called by the library: the system's numbers of Ruby's own threads, whose names are the program's business.
      def ruby_threads
        Thread.list.filter_map { |thread| thread.native_thread_id if thread.alive? }
      end

      # Called by the library: how the handles of other bindings stand, if that is known.
      def state_of_others
        Rdkafka.state
      end

      # Called by the library: the reason for a refusal, or nil if it has gone meanwhile.
      def refusal
        handles = Census.take
        Refusal.of(handles) unless handles.empty?
      end

      # Called by the library before a fork beside live handles that the user wants all the same.
      def before_fork_anyway(refusal)
        Refusal.warn_once(refusal) if refusal
      ensure
        Rdkafka.disarm_in_children
      end
    end

    Core.watch
    remember_places
  end

  Process.singleton_class.prepend(ForkGuard::ProcessHook)
  IO.singleton_class.prepend(ForkGuard::PopenHook)
end
