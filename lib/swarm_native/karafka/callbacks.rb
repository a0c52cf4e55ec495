# frozen_string_literal: true

module SwarmNative
  module Karafka
    # What a user's callback raises while the drop-in waits in librdkafka. Through FFI it comes out of the poll that the
    # callback ran in; a wait of the gem's own, before Ruby 3.3, is no call by FFI, and it would be lost.
    #
    # @api private
    module Callbacks
      KEY = :swarm_native_raised
      private_constant :KEY

      # Rdkafka::Config's, whose callbacks the binding looks up when librdkafka calls.
      %i[statistics_callback error_callback oauthbearer_token_refresh_callback].each do |name|
        define_method(name) { Callbacks.catching(super()) }
      end

      class << self
        def join
          Rdkafka::Config.singleton_class.prepend(self) if Turnstile.respond_to?(:native_wait, true)
        end

        # @yield waits in librdkafka
        # @return [Array(Object, Exception)] what the block gave, and what the first callback that failed has raised
        def while_waiting
          raised = Thread.current[KEY] = []
          [yield, raised.first]
        ensure
          Thread.current[KEY] = nil
        end

        def catching(callback)
          raised = Thread.current[KEY]
          return callback unless callback && raised

          lambda do |*arguments|
            callback.call(*arguments)
          rescue Exception => e # rubocop:disable Lint/RescueException -- it is raised again where the wait ends
            raised << e
          end
        end
      end
    end
  end
end
