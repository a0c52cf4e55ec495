# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Processor
      # Where messages go that have failed too often: a topic, or whatever the user calls.
      # @api private
      class DeadLetters
        # Seconds that a broker has to take a message. It stays where it is otherwise.
        DELIVERY = 30.0

        # @return [DeadLetters, nil] nil where there is no such place
        def self.of(settings)
          settings.dead_letter && new(settings)
        end

        def initialize(settings)
          @settings = settings
          @place = settings.dead_letter
          # Made by the first that needs it, which may be several at once.
          @own = Kafka.lazy { Producer.new(settings.producer_config) }
        end

        # Returns once the message is safe; raises where it is not.
        def take(message, error, attempts)
          return @place.call(message, error) if @place.respond_to?(:call)

          producer = @settings.producer || @own.value
          headers = message.header_pairs + about(message, error, attempts)
          producer.produce(topic: @place, payload: message.payload, key: message.key, headers: headers).wait(DELIVERY)
        end

        # What is queued still has been given up: it stays where it came from, and is tried again.
        def close
          @own.value.close(0) if @own.made?
        end

        private

        def about(message, error, attempts)
          { "swarm.topic" => message.topic, "swarm.partition" => message.partition, "swarm.offset" => message.offset,
            "swarm.attempts" => attempts, "swarm.error" => "#{error.class}: #{error.message}" }
            .map { |name, value| [name, value.to_s.byteslice(0, 4096)] }
        end
      end
    end
  end
end
