# frozen_string_literal: true

require_relative "hearing"
require_relative "rest"
require_relative "transactions"

module SwarmNative
  module Kafka
    # Sends messages. Thread-safe.
    #
    # Close it: what is still unsent when a process exits gets one second.
    #
    # @example
    #   producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:9092")
    #   delivery = producer.produce(topic: "orders", payload: "1 apple", key: "alice")
    #   delivery.wait(10).offset # => 0
    #   producer.close # => {}
    #
    # @!method closed?
    #   @return [Boolean]
    # @!method queue_size
    #   @return [Integer] messages that have no answer yet
    # @!method untold
    #   @return [Integer] messages that have their answer, of which {Hearing#on_delivered} has not heard to the end; also
    #     after {#close}
    # @!method name
    #   @return [String] librdkafka's name of it
    class Producer
      include Transactions
      include Hearing

      prepend Rest
      private_class_method :native_open

      # @param config [Hash] librdkafka's own property names, as symbols or strings, with Strings, Symbols, numbers,
      #   true, false, or Arrays of those; they may be given as keywords too
      # @param queue_timeout [Float, nil] how many seconds {#produce} waits for room when the local queue is full; 0
      #   raises at once, nil waits without end
      # @param token [#call, nil] with `"sasl.mechanisms": "OAUTHBEARER"`: as for {Consumer.new}, called on the thread of
      #   {Hearing}
      # @raise [ConfigurationError] names every property that is unknown or has a value that cannot be
      def self.new(config = {}, queue_timeout: 60.0, token: nil, **more)
        config = config.to_h.merge(more)
        made_at = Kafka.made_at
        Kafka.send(:turn_on)
        native_open(config, made_at, queue_timeout, !token.nil?)
          .tap { |producer| producer.send(:remember, config, made_at, token) }
      end

      # Queues a message and returns at once, unless the queue is full.
      #
      # @param topic [String]
      # @param payload [String, nil] nil is a tombstone
      # @param key [String, nil]
      # @param partition [Integer, nil] nil leaves the choice to the `partitioner`
      # @param headers [Hash, Array<Array>, nil] names to Strings, nil or Arrays of those; or pairs
      # @param timestamp [Time, Integer, nil] milliseconds since 1970 as an Integer; nil is now
      # @return [Delivery] the answer, once it is there
      # @raise [Kafka::Error] it was not queued: `:queue_full` after queue_timeout, `:msg_size_too_large`, and others
      # @raise [ClosedHandle] the producer is closed
      def produce(topic:, payload: nil, key: nil, partition: nil, headers: nil, timestamp: nil)
        timestamp = (timestamp.to_r * 1000).floor if timestamp.is_a?(Time)
        # nil: the queue is full, and a fiber must not wait here.
        native_produce(topic, payload, key, partition, headers, timestamp) ||
          Kafka.wait { native_produce(topic, payload, key, partition, headers, timestamp) }
      rescue RestingHandle
        wake_up
        retry
      end

      # Queues many messages in one call, which is several times faster than {#produce} for each.
      #
      # A message that librdkafka refuses has its failure at once; so have those that find no room in the local queue
      # within the queue_timeout. Nothing is queued when one of the Hashes cannot be.
      #
      # @param messages [Array<Hash>] each with `topic:` and what else {#produce} takes
      # @return [Deliveries] the answers, in the order of the messages
      # @raise [ArgumentError, TypeError] what one of the Hashes says cannot be
      # @raise [ClosedHandle] the producer is closed
      def produce_many(messages)
        Kafka.wait { native_produce_many(messages) }
      rescue RestingHandle
        wake_up
        retry
      end

      # Sends what is queued without waiting for `linger.ms`, and waits for the answers; not for the blocks of
      # {Hearing#on_delivered} that they are told to.
      #
      # @param timeout [Float, nil] seconds; nil is no limit
      # @return [Boolean] true: every message has its answer; false: the time was over
      def flush(timeout = nil)
        Kafka.wait { native_flush(timeout) }
      end

      # Gives up every message that has no answer; their deliveries fail with `:purge_queue` or `:purge_inflight`.
      #
      # @return [self]
      def purge
        native_purge
        self
      end

      # Flushes within the time, gives up the rest, and ends the handle. Only the first call does.
      #
      # Then it waits until the blocks of {Hearing} have heard of everything, in what is left of the time, or within a
      # second. Where that is not enough it says so to {SwarmNative.logger}; they hear of the rest later.
      #
      # @param timeout [Float, nil] seconds; nil is no limit
      # @return [Hash{String => Integer}] the topics of messages that were not delivered, with their number; empty when
      #   all were, and when it was closed already
      def close(timeout = 30.0)
        deadline = timeout && (Process.clock_gettime(Process::CLOCK_MONOTONIC) + timeout)
        lost = Kafka.wait { native_close(timeout) } || {}
        end_hearing(deadline)
        lost
      end

      # @return [String]
      def inspect
        "#<#{self.class} #{name}>"
      end
    end
  end
end
