# frozen_string_literal: true

module SwarmNative
  module Kafka
    # The messages of one poll. They share one buffer, which lives as long as one of them.
    #
    # @!method size
    #   @return [Integer] the number of messages
    # @!method empty?
    #   @return [Boolean]
    # @!method bytesize
    #   @return [Integer] the bytes of keys, payloads and headers
    # @!method payloads
    #   @return [Array<String, nil>] all payloads, made in one go
    class Batch
      include Enumerable

      # @yieldparam message [Message]
      # @return [self, Enumerator]
      def each
        return enum_for(:each) { size } unless block_given?

        index = 0
        count = size
        while index < count
          yield native_at(index)
          index += 1
        end
        self
      end

      # @param index [Integer] a negative one counts from the end
      # @return [Message, nil]
      def [](index)
        native_at(index)
      end

      # @return [Message, nil]
      def last
        native_at(-1)
      end

      alias length size

      # One batch for each partition, in the order in which they first come. Each has a buffer of its own: who keeps the
      # messages of one partition keeps no other's.
      #
      # @return [Array<Batch>]
      def by_partition
        native_split
      end

      # @param start [Integer] from 0 on
      # @param size [Integer]
      # @return [Batch] these messages, or as many of them as there are. It shares the buffer
      def slice(start, size)
        unless [start, size].all? { |number| number.is_a?(Integer) && !number.negative? }
          raise ArgumentError, "slice takes two Integers from 0 on, not #{start.inspect} and #{size.inspect}"
        end

        native_slice(start, size)
      end

      # @return [String, nil] of the first message
      def topic
        native_at(0)&.topic
      end

      # @return [Integer, nil] of the first message
      def partition
        native_at(0)&.partition
      end

      # @return [Integer, nil] of the first message
      def first_offset
        native_at(0)&.offset
      end

      # @return [String]
      def inspect
        "#<#{self.class} size=#{size} bytesize=#{bytesize}>"
      end
    end

    # A message. Each field is made a Ruby object when it is asked for, and anew each time.
    #
    # @!method topic
    #   @return [String] frozen, UTF-8
    # @!method partition
    #   @return [Integer]
    # @!method offset
    #   @return [Integer]
    # @!method leader_epoch
    #   @return [Integer, nil]
    # @!method timestamp_ms
    #   @return [Integer, nil] milliseconds since 1970
    # @!method key
    #   @return [String, nil] frozen, binary
    # @!method payload
    #   @return [String, nil] frozen, binary; nil is a tombstone
    # @!method payload_size
    #   @return [Integer] bytes, 0 for a tombstone
    class Message
      # @return [Time, nil]
      def timestamp
        milliseconds = timestamp_ms
        milliseconds && Time.at(milliseconds / 1000, milliseconds % 1000, :millisecond)
      end

      # @return [Hash{String => String, nil, Array<String, nil>}] frozen; names are UTF-8 where their bytes are, values
      #   are binary. A name that comes more than once has an Array, in the order in which they were sent
      def headers
        native_headers.each_with_object({}) do |(name, value), headers|
          headers[name] = headers.key?(name) ? [*(headers[name] || [nil]), value].freeze : value
        end.freeze
      end

      # @return [Array<Array(String, String)>] frozen pairs of name and value, in the order in which they were sent
      def header_pairs
        native_headers
      end

      # @return [String]
      def inspect
        "#<#{self.class} #{topic}/#{partition} offset=#{offset} payload_size=#{payload_size}>"
      end
    end
  end
end
