# frozen_string_literal: true

module SwarmNative
  # The process layer alone: `cargo build --no-default-features` leaves librdkafka out.
  module Kafka
    CLASSES = %i[Admin Batch Consumer Deliveries Delivery EmbeddedBroker Message Processor Producer].freeze
    private_constant :CLASSES

    # @raise [SwarmNative::Error] for a class that this build does not have
    def self.const_missing(name)
      return super unless CLASSES.include?(name)

      raise SwarmNative::Error, "SwarmNative::Kafka::#{name} is not here: this karafka_swarm was built without its cargo feature " \
                   "`kafka`. Build it with the default features: gem install karafka_swarm"
    end
  end
end
