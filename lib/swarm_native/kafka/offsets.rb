# frozen_string_literal: true

module SwarmNative
  module Kafka
    # A {Consumer}'s offsets: where it stands, what its group has committed, where partitions begin and end.
    #
    # @!method position
    #   @return [Hash{String => Hash{Integer => Integer}}] topic, partition, next offset to be handed out
    module Offsets
      # librdkafka's numbers for places.
      PLACES = { beginning: -2, end: -1 }.freeze
      private_constant :PLACES

      # Remembers that this message is done: the offset after it is what the next commit commits, be it by hand or by
      # `enable.auto.commit`. Needs `"enable.auto.offset.store": false`.
      #
      # @overload store_offset(message)
      #   @param message [Message]
      # @overload store_offset(topic, partition, next_offset)
      # @return [self]
      # @raise [Kafka::Error] `:state` or `:unknown_partition`: the partition is not (any more) this member's
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
      def commit(offsets = nil, async: false, timeout: 60.0, **topics)
        list = commit_list(given(offsets, topics))
        async ? native_commit(list, false, timeout) : Kafka.wait { native_commit(list, true, timeout) }
      end

      # The group's committed offsets of the partitions that this member has.
      #
      # @param timeout [Float] seconds
      # @return [Hash{String => Hash{Integer => Integer}}] topic, partition, offset, without those that have none
      def committed(timeout = 5.0)
        Kafka.wait { native_committed(timeout) }
      end

      # Goes on at other offsets. The partitions have to be this member's.
      #
      # @overload seek(message)
      #   @param message [Message] is handed out again, and those after it
      # @overload seek(offsets)
      #   @param offsets [Hash{String => Hash{Integer => Integer, Symbol, Time}}] topic, partition, and an offset,
      #     `:beginning`, `:end`, or a Time: the first message from then on
      # @param timeout [Float] seconds
      # @return [self]
      # @raise [Kafka::Error]
      def seek(offsets = nil, timeout: 5.0, **topics)
        offsets = given(offsets, topics)
        offsets = { offsets.topic => { offsets.partition => offsets.offset } } if offsets.is_a?(Message)
        list = partition_list(offsets)
        timed, plain = list.partition { |_, _, place| place.is_a?(Time) }
        plain.concat(at_times(timed, timeout)) unless timed.empty?
        Kafka.wait { native_seek(plain, timeout) }
        self
      end

      # @param topic [String]
      # @param partition [Integer]
      # @param timeout [Float] seconds
      # @return [Array(Integer, Integer)] the first offset, and the one after the last
      # @raise [Kafka::Error]
      def watermarks(topic, partition, timeout: 5.0)
        Kafka.wait { native_watermarks(topic, partition, timeout) }
      end

      # @param times [Hash{String => Hash{Integer => Time}}] topic, partition, moment
      # @param timeout [Float] seconds
      # @return [Hash{String => Hash{Integer => Integer}}] the first offset at or after each moment; a partition that
      #   ends before it has none
      # @raise [Kafka::Error]
      def offsets_for_times(times = nil, timeout: 5.0, **topics)
        list = partition_list(given(times, topics)).map { |topic, partition, time| [topic, partition, milliseconds(time)] }
        Kafka.wait { native_offsets_for_times(list, timeout) }
      end

      # How many messages of each partition the group has not committed yet.
      #
      # @param timeout [Float] seconds
      # @return [Hash{String => Hash{Integer => Integer}}] topic, partition, messages
      # @raise [Kafka::Error]
      def lag(timeout = 5.0)
        Kafka.wait { native_lag(timeout) }
      end

      private

      # A Hash without braces comes as keywords, where a method has some.
      def given(positional, topics)
        topics.empty? ? positional : topics
      end

      def commit_list(offsets)
        case offsets
        when nil then nil
        when Message then [offsets]
        when Hash then partition_list(offsets)
        when Batch, Array
          # One entry a partition: librdkafka takes the last of several, but says so nowhere.
          offsets.to_h { |message| [[message.topic, message.partition], message] }.values
        else
          raise TypeError, "offsets are nil, a Message, a Batch, an Array of Messages or a Hash, not #{offsets.inspect}"
        end
      end

      # @return [Array<Array(String, Integer, Object)>]
      def partition_list(partitions)
        raise TypeError, "partitions are a Hash by topic, not #{partitions.inspect}" unless partitions.is_a?(Hash)

        partitions.flat_map do |topic, numbers|
          Array(numbers).map do |number, place|
            place = PLACES.fetch(place) { raise ArgumentError, "#{place.inspect} is no place" } if place.is_a?(Symbol)
            [topic.to_s, number, place]
          end
        end
      end

      def at_times(list, timeout)
        times = list.group_by(&:first).transform_values { |some| some.to_h { |_, partition, time| [partition, time] } }
        found = offsets_for_times(times, timeout: timeout)
        list.map { |topic, partition, _| [topic, partition, found.dig(topic, partition) || PLACES[:end]] }
      end

      def milliseconds(time)
        raise TypeError, "a moment is a Time, not #{time.inspect}" unless time.is_a?(Time)

        (time.to_r * 1000).ceil
      end
    end
  end
end
