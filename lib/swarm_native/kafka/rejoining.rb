# frozen_string_literal: true

module SwarmNative
  module Kafka
    # A static member (`group.instance.id`) of a group with `group.protocol=consumer` that was killed keeps its place until
    # its session is over, and whoever comes in its place is refused with an error that ends librdkafka's client for good.
    # So the client is made anew every second until the group lets it in.
    # @private
    module Rejoining
      # Seconds between two attempts.
      AGAIN = 1.0
      private_constant :AGAIN

      private

      def remember(config, made_at, token)
        @config = config
        @made_at = made_at
        @token = token
        @topics = nil
        @rejoin_at = nil
      end

      # @return [Batch, Array, nil] what a poll gives; nil: poll again
      def poll_or_rejoin(max, max_bytes, timeout)
        return poll_once(max, max_bytes, timeout) unless @rejoin_at

        # The client that was refused gives nothing any more, but waits like any other: it can be closed and woken.
        rest = @rejoin_at - now
        found = rest.positive? ? poll_once(max, max_bytes, [timeout, rest].compact.min) : nil
        return found if now < @rejoin_at

        rejoin
        nil
      rescue Error => e
        raise unless e.name == :unreleased_instance_id && e.fatal? && @topics

        @rejoin_at = now + AGAIN
        @listeners && @listeners[:error]&.call(e)
        nil
      end

      # @raise [ClosedHandle] another thread has closed it
      def rejoin
        @rejoin_at = nil
        Kafka.wait { native_renew(@config, @made_at, !@token.nil?) }
        listen_again
        native_subscribe(@topics)
      end
    end
    private_constant :Rejoining
  end
end
