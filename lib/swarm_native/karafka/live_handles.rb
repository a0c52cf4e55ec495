# frozen_string_literal: true

module SwarmNative
  module Karafka
    # The fork guard, without an outage. Karafka closes its own producer before it forks; an app whose supervisor holds
    # others runs all the same, since they are disconnected before each fork and connect again by themselves.
    #
    # What stays live all the same is an error at the first start, before anything was forked. At a restart it is told, tried again, and forked
    # beside in the end: a slot that stays empty is worse.
    #
    # @api private
    class LiveHandles
      # For how long the restart of a node waits.
      PATIENCE = 5.0
      # How often it is tried meanwhile.
      RETRY = 0.5
      # How long delivering what producers have queued may hold up the supervisor.
      DELIVERY = 1.0

      def initialize
        @waiting = {}
      end

      # Before the first start.
      # @raise [ForkRefused]
      def before_start
        rest
      rescue ForkRefused
        raise if ForkGuard.mode == :raise
      end

      # Before a restart.
      # @return [Symbol] `:safe`, also where the guard does not refuse, `:wait`, or `:anyway`: the patience is over
      # @yieldparam refused [ForkRefused] the first time that this restart has to wait
      def before_restart(id, generation)
        since, = @waiting[id]
        rest
        @waiting.delete(id)
        :safe
      rescue ForkRefused => e
        unless ForkGuard.mode == :raise
          # The guard itself warns, or says nothing.
          @waiting.delete(id)
          return :safe
        end

        yield e unless since
        @waiting[id] = [since || now, generation]
        return :wait if now - @waiting[id].first < PATIENCE

        @waiting.delete(id)
        :anyway
      end

      # The restarts that wait, as [id, generation].
      def waiting = @waiting.map { |id, (_, generation)| [id, generation] }

      def none? = @waiting.empty?

      # The swarm stops, or has become smaller.
      def forget(id) = @waiting.delete(id)

      private

      # Nearly always nothing is live, which costs next to nothing to know.
      def rest
        ForkGuard.quiesce(timeout: DELIVERY) {} unless ForkGuard.safe? # rubocop:disable Lint/EmptyBlock
      end

      def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)
    end
  end
end
