# frozen_string_literal: true

module SwarmNative
  module Karafka
    # With `group.protocol=consumer` a static member that was killed and comes back is refused by the group until the
    # broker's session timeout has passed (`unreleased_instance_id`). The refusal is fatal for its consumer: from then
    # on that one polls nothing, for ever, while its node is well by all other signs. Such a consumer is closed and
    # made anew every second until the group takes it.
    #
    # @api private
    class Rejoin
      # Seconds from one attempt to the next.
      EVERY = 1.0
      # Older bindings tell only that it is fatal.
      REFUSALS = %i[unreleased_instance_id fatal].freeze

      # Karafka's client, which makes its consumers by itself, and anew after a reset.
      module Client
        private

        def build_consumer
          super.tap { |consumer| @swarm_native_rejoin = Rejoin.watch(consumer, self) }
        end

        def poll(timeout)
          reset if @swarm_native_rejoin&.due?
          super
        end
      end

      # A consumer that may be refused.
      module Consumer
        attr_writer :swarm_native_rejoin

        def poll(timeout_ms) = @swarm_native_rejoin.poll(timeout_ms) { super }
      end

      class << self
        def join
          ::Karafka::Connection::Client.prepend(Client)
        end

        # @return [Rejoin, nil] nil: a consumer that cannot be refused for that
        def watch(consumer, client)
          settings = client.subscription_group.kafka
          return unless settings[:"group.protocol"].to_s == "consumer" && settings.key?(:"group.instance.id")

          consumer.extend(Consumer)
          consumer.swarm_native_rejoin = new(client)
        end
      end

      def initialize(client)
        @client = client
        @made = now
        @refused = @taken = false
      end

      # What Karafka makes of the refusal differs from version to version and with the time that is left: it forgets
      # it, or rests for a minute. So it is told here, as Karafka tells of an error, and goes no further.
      def poll(timeout_ms)
        return rest(timeout_ms) if @refused

        yield.tap { |message| @taken = true if message }
      rescue Rdkafka::RdkafkaError => e
        # A consumer that the group has taken, and that may have jobs under way, is Karafka's to reset.
        raise if @taken || !REFUSALS.include?(e.code)

        @refused = true
        ::Karafka.monitor.instrument("error.occurred", caller: @client, error: e, type: "connection.client.poll.error")
        rest(timeout_ms)
      end

      # @return [Boolean] whether it is to be made anew
      def due? = @refused && now - @made >= EVERY

      private

      def rest(timeout_ms)
        sleep([timeout_ms / 1000.0, @made + EVERY - now].min.clamp(0, EVERY))
        nil
      end

      def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)
    end
  end
end
