# frozen_string_literal: true

module SwarmNative
  module Kafka
    # Gives librdkafka the OAUTHBEARER tokens that it asks for.
    # @private
    module Tokens
      private

      def fetch_token(config)
        token = @token.call(config)
        extensions = token.fetch(:extensions, nil).to_h.flat_map { |name, value| [name.to_s, value.to_s] }
        expires_at = (token.fetch(:expires_at).to_r * 1000).to_i
        native_set_token(token.fetch(:token), expires_at, token.fetch(:principal), extensions)
      rescue StandardError => e
        raise if e.is_a?(ClosedHandle)

        native_refuse_token("#{e.message} (#{e.class})")
      end
    end
    private_constant :Tokens
  end
end
