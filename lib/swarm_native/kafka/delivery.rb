# frozen_string_literal: true

module SwarmNative
  module Kafka
    # What became of one message: {Producer#produce} returns it at once, the answer comes later.
    #
    # @!method delivered?
    #   @return [Boolean] true once a broker has acknowledged it
    # @!method pending?
    #   @return [Boolean] true until there is an answer
    # @!method topic
    #   @return [String] the topic
    # @!method partition
    #   @return [Integer, nil] the partition that was chosen; nil until there is an answer
    # @!method offset
    #   @return [Integer, nil] the offset; nil until it is delivered, and with `acks=0`
    # @!method error
    #   @return [Kafka::Error, nil] why it was not delivered; nil when it was, or when there is no answer yet
    class Delivery
      # Waits for the answer, without the GVL.
      #
      # @param timeout [Float, nil] seconds; nil waits as long as `delivery.timeout.ms` allows
      # @return [self] delivered: {#partition} and {#offset} are there
      # @raise [Kafka::Error] it was not delivered, or (`:timed_out`) there was no answer in time
      # @raise [StaleHandle] its producer was made by another process
      def wait(timeout = nil)
        pending? ? Kafka.wait { native_wait(timeout) } : native_wait(timeout)
        self
      end

      # @return [String]
      def inspect
        state = pending? ? "pending" : error&.name || "delivered"
        "#<#{self.class} #{topic}/#{partition || "?"} offset=#{offset.inspect} #{state}>"
      end
    end
  end
end
