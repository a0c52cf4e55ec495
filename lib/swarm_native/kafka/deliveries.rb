# frozen_string_literal: true

module SwarmNative
  module Kafka
    # What became of the messages of one {Producer#produce_many}, in their order.
    #
    # @!method size
    #   @return [Integer] the number of messages
    # @!method pending
    #   @return [Integer] how many have no answer yet
    class Deliveries
      include Enumerable

      # @yieldparam delivery [Delivery]
      # @return [self, Enumerator]
      def each
        return enum_for(:each) { size } unless block_given?

        size.times { |index| yield native_at(index) }
        self
      end

      # @param index [Integer] a negative one counts from the end
      # @return [Delivery, nil]
      def [](index)
        native_at(index)
      end

      alias length size

      # @return [Array<Delivery>] those that have failed so far
      def failed
        native_failed.map { |index| native_at(index) }
      end

      # @return [Boolean] true once all are delivered
      def delivered?
        pending.zero? && native_failed.empty?
      end

      # Waits for all answers, without the GVL.
      #
      # @param timeout [Float, nil] seconds
      # @return [self] all are delivered
      # @raise [Kafka::Error] the first failure, or (`:timed_out`) not all have an answer in time
      # @raise [StaleHandle] their producer was made by another process
      def wait(timeout = nil)
        complete = pending.zero? || Kafka.wait { native_wait(timeout) }
        first = native_failed.first
        raise native_at(first).error if first

        # The one that has no answer says why.
        find(&:pending?).wait(0) unless complete
        self
      end

      # @return [String]
      def inspect
        "#<#{self.class} size=#{size} pending=#{pending} failed=#{native_failed.size}>"
      end
    end
  end
end
