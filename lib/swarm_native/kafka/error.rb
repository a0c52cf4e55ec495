# frozen_string_literal: true

module SwarmNative
  module Kafka
    # An error of librdkafka or of a broker.
    class Error < SwarmNative::Error
      # @return [Integer] Kafka's number; negative where the client itself found the error
      attr_reader :code

      # @return [Symbol] librdkafka's constant in lower case, such as `:unknown_topic_or_part` or `:msg_timed_out`
      attr_reader :name

      # @return [Hash{String => Hash{Integer => Integer}}, nil] of a commit in the background that has failed: what was to be
      #   committed, by topic and partition
      attr_reader :offsets

      # @private made by the library
      def initialize(message = nil, code = -1, name = :unknown, retriable = false, fatal = false, requires_abort = false,
                     offsets = nil)
        super(message)
        @code = code
        @name = name
        @retriable = retriable
        @fatal = fatal
        @requires_abort = requires_abort
        @offsets = offsets
      end

      # @return [Boolean] the same call may succeed later
      def retriable?
        @retriable
      end

      # @return [Boolean] the client can no longer be used: close it and make a new one
      def fatal?
        @fatal
      end

      # @return [Boolean] the transaction under way has to be aborted
      def requires_abort?
        @requires_abort
      end

      # @return [String] the message and the name
      def message
        "#{super} (#{name})"
      end
    end
  end
end
