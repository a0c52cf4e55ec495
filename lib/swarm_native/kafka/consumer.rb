# frozen_string_literal: true

module SwarmNative
  module Kafka
    # A member of a consumer group. One thread polls; the other methods may be called from any thread, {#close} too.
    #
    # @example At least once: an offset is stored when its message has been worked on
    #   consumer = SwarmNative::Kafka::Consumer.new("bootstrap.servers": "127.0.0.1:9092", "group.id": "billing",
    #                                               "enable.auto.offset.store": false, "auto.offset.reset": "earliest")
    #   consumer.subscribe("orders")
    #   until stopping?
    #     consumer.poll_batch(100, 1.0).each do |message|
    #       bill(message.payload)
    #       consumer.store_offset(message)
    #     end
    #   end
    #   consumer.close # commits what is stored
    #
    # @!method assignment
    #   @return [Hash{String => Array<Integer>}] topics with the partitions that this member has
    # @!method assignment_lost?
    #   @return [Boolean] true when the group has given the partitions away without waiting for this member
    # @!method position
    #   @return [Hash{String => Hash{Integer => Integer}}] topic, partition, next offset to be handed out
    # @!method subscription
    #   @return [Array<String>] topics and patterns subscribed to
    # @!method closed?
    #   @return [Boolean]
    # @!method name
    #   @return [String] librdkafka's name of it
    class Consumer
      private_class_method :native_open

      # @param config [Hash] librdkafka's own property names, as for {Producer.new}; `group.id` is needed
      # @raise [ConfigurationError] names every property that is unknown or has a value that cannot be
      def self.new(config = {}, **more)
        native_open(config.to_h.merge(more), Kafka.made_at)
      end

      # Joins the group for these topics, in place of those before. The partitions come while it polls.
      #
      # @param topics [Array<String>] names; one that begins with `^` is a regular expression
      # @return [self]
      # @raise [Kafka::Error]
      def subscribe(*topics)
        topics = topics.flatten
        raise ArgumentError, "subscribe needs at least one topic" if topics.empty?

        native_subscribe(topics)
        self
      end

      # Gives the partitions back.
      #
      # @return [self]
      def unsubscribe
        native_unsubscribe
        self
      end

      # Takes the messages that are there; waits, without the GVL, only when there is none.
      #
      # @param max [Integer] the most messages
      # @param timeout [Float, nil] how many seconds to wait for the first one; nil waits without end
      # @param max_bytes [Integer] takes no further message once the batch has this size
      # @return [Batch] empty when nothing came in time
      # @raise [Kafka::Error] such as `:unknown_topic_or_part`; polling on is allowed, unless it is `fatal?`
      # @raise [ClosedHandle] the consumer is closed, maybe meanwhile by another thread
      def poll_batch(max = 100, timeout = 1.0, max_bytes: 64 * 1024 * 1024)
        unless max.is_a?(Integer) && max.positive?
          raise ArgumentError, "max is a number of messages from 1 on, not #{max.inspect}"
        end
        unless max_bytes.is_a?(Integer) && max_bytes.positive?
          raise ArgumentError, "max_bytes is a number of bytes from 1 on, not #{max_bytes.inspect}"
        end

        native_poll_batch(max, max_bytes, timeout)
      end

      # Remembers that this message is done: the offset after it is what the next commit commits, be it by hand or by
      # `enable.auto.commit`. Needs `"enable.auto.offset.store": false`.
      #
      # @overload store_offset(message)
      #   @param message [Message]
      # @overload store_offset(topic, partition, next_offset)
      # @return [self]
      # @raise [Kafka::Error] `:state`: the partition is not (any more) this member's
      def store_offset(message, partition = nil, next_offset = nil)
        partition ? native_store_at(message, partition, next_offset) : native_store(message)
        self
      end

      # Commits.
      #
      # @param offsets [nil, Message, Batch, Array<Message>, Hash{String => Hash{Integer => Integer}}] nil is what is
      #   stored; messages stand for the offsets after them, the last one of a partition counts; a Hash gives topic,
      #   partition, next offset
      # @param async [Boolean] true does not wait; a failure is logged
      # @param timeout [Float, nil] seconds to wait
      # @return [Hash{String => Hash{Integer => Integer}}, true, nil] what was committed; true with async; nil when
      #   there was nothing to commit
      # @raise [Kafka::Error] such as `:illegal_generation`, when the group has gone on without this member
      def commit(offsets = nil, async: false, timeout: 60.0)
        native_commit(commit_list(offsets), !async, timeout)
      end

      # The group's committed offsets of the partitions that this member has.
      #
      # @param timeout [Float] seconds
      # @return [Hash{String => Hash{Integer => Integer}}] topic, partition, offset, without those that have none
      def committed(timeout = 5.0)
        native_committed(timeout)
      end

      # Leaves the group, so that others take over at once, and ends the handle. Stored offsets are committed first,
      # where `enable.auto.commit` is on. Only the first call does.
      #
      # @param timeout [Float] seconds
      # @return [Boolean] true when the group was left in time, or when it was closed already
      def close(timeout = 10.0)
        native_close(timeout) != false
      end

      # @return [String]
      def inspect
        "#<#{self.class} #{name}>"
      end

      private

      def commit_list(offsets)
        case offsets
        when nil then nil
        when Message then [offsets]
        when Hash
          offsets.flat_map { |topic, partitions| partitions.map { |number, offset| [topic.to_s, number, offset] } }
        when Batch, Array
          # One entry a partition: librdkafka takes the last of several, but says so nowhere.
          offsets.to_h { |message| [[message.topic, message.partition], message] }.values
        else
          raise TypeError, "offsets are nil, a Message, a Batch, an Array of Messages or a Hash, not #{offsets.inspect}"
        end
      end
    end
  end
end
