# frozen_string_literal: true

module SwarmNative
  module Karafka
    # Makes the binding's messages of librdkafka's. The binding reads each field by a call through FFI; here one call reads
    # them all, in Rust.
    #
    # What a message of the binding is made of is no interface. So the first one, and the first with headers, are made
    # both ways, and where the two are not the same in everything the binding goes on making all.
    #
    # @api private
    class Messages
      FUNCTIONS = %w[rd_kafka_topic_name rd_kafka_message_timestamp rd_kafka_message_headers rd_kafka_header_get_all
                     rd_kafka_message_destroy].freeze

      def initialize
        @class = Rdkafka::Consumer::Message
        @no_headers = Rdkafka::Consumer::Headers::EMPTY_HEADERS
        library = Rdkafka::Bindings.ffi_libraries.first
        @possible = ForeignMessages.library(FUNCTIONS.map { |name| library.find_function(name).address })
        @proven = @proven_with_headers = false
      rescue NameError, FFI::NotFoundError
        @possible = false
      end

      # @param address [Integer] a message, which is destroyed unless it is an error
      # @return [Rdkafka::Consumer::Message, nil] nil: it is an error
      def take(address)
        message = ForeignMessages.take(@class, @no_headers, address, @proven_with_headers) if @proven
        message || take_slowly(address)
      end

      private

      def take_slowly(address)
        native = Rdkafka::Bindings::Message.new(FFI::Pointer.new(address))
        return unless native[:err].zero?

        begin
          @class.new(native).tap { |message| prove(message, address) if @possible }
        ensure
          Rdkafka::Bindings.rd_kafka_message_destroy(native)
        end
      end

      def prove(message, address)
        @possible = same?(message, ForeignMessages.copy(@class, @no_headers, address))
        @proven = @possible
        @proven_with_headers = @possible && (@proven_with_headers || !message.headers.empty?)
      end

      def same?(theirs, ours)
        variables = theirs.instance_variables
        variables == ours.instance_variables && variables.all? do |name|
          alike?(theirs.instance_variable_get(name), ours.instance_variable_get(name))
        end
      end

      def alike?(theirs, ours)
        return false unless theirs.instance_of?(ours.class) && theirs == ours && theirs.frozen? == ours.frozen?

        case theirs
        when String then theirs.encoding == ours.encoding
        when Array then theirs.zip(ours).all? { |pair| alike?(*pair) }
        when Hash then [theirs, ours].map(&:to_a).transpose.all? { |pairs| pairs.transpose.all? { |pair| alike?(*pair) } }
        when Time then theirs.utc_offset == ours.utc_offset
        else true
        end
      end
    end
  end
end
