# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Processor
      # Something that happened in a processor. Immutable. What does not apply is nil.
      #
      # | name | when |
      # |---|---|
      # | `:consumed` | work is done: `topic`, `partition`, `offset` to `last_offset`, `size`, `duration`, `attempt` |
      # | `:error` | `error`, and why it matters in `reason`; `retry_in` seconds until the next attempt |
      # | `:paused` | a partition gets no more messages; `reason` is "retry", "pressure" or "quiet" |
      # | `:resumed` | it gets messages again |
      # | `:assigned` | the group has given `partitions` |
      # | `:revoked` | it has taken `partitions`; `reason` is "lost" where it did not wait for this member |
      # | `:lag` | messages that are not done yet: `lag`, by topic and partition |
      #
      # Reasons of an error: "job" (the block raised; `retry_in`), "dead_letter" (it raised for the last time, and the
      # message has gone to the dead letters), "dead_letter_failed" (they have not taken it: it is tried again, and its
      # partition does not get on until they do; `error.cause` is what the block raised), "revoked" (a job did not end
      # within `revoke_timeout`; its result is dropped), "shutdown" (jobs did not end within `shutdown_timeout`), "poll"
      # (the consumer's error), "commit" (offsets could not be committed: `error.offsets`; they are tried again),
      # "polling_ttl" and "consuming_ttl" (the node is unhealthy), "listener" (one raised).
      class Event
        NAMES = %i[consumed error paused resumed assigned revoked lag].freeze

        FIELDS = %i[name topic partition offset last_offset size duration attempt error reason retry_in partitions
                    lag time].freeze
        private_constant :FIELDS

        # @!attribute [r] name
        #   @return [Symbol] one of {NAMES}
        # @!attribute [r] topic
        #   @return [String, nil]
        # @!attribute [r] partition
        #   @return [Integer, nil]
        # @!attribute [r] offset
        #   @return [Integer, nil] of the first message; for an error, where the next attempt begins
        # @!attribute [r] last_offset
        #   @return [Integer, nil]
        # @!attribute [r] size
        #   @return [Integer, nil] messages
        # @!attribute [r] duration
        #   @return [Float, nil] seconds
        # @!attribute [r] attempt
        #   @return [Integer, nil] from 1
        # @!attribute [r] error
        #   @return [Exception, nil]
        # @!attribute [r] reason
        #   @return [String, nil]
        # @!attribute [r] retry_in
        #   @return [Float, nil] seconds
        # @!attribute [r] partitions
        #   @return [Hash{String => Array<Integer>}, nil]
        # @!attribute [r] lag
        #   @return [Hash{String => Hash{Integer => Integer}}, nil]
        # @!attribute [r] time
        #   @return [Float] when it was told, in seconds of the monotonic clock
        attr_reader(*FIELDS)

        # @api private
        def initialize(**fields)
          unknown = fields.keys - FIELDS
          raise ArgumentError, "no such field: #{unknown.join(", ")}" if unknown.any?

          fields.each { |name, value| instance_variable_set(:"@#{name}", value) }
          (FIELDS - fields.keys).each { |name| instance_variable_set(:"@#{name}", nil) }
          @time = Process.clock_gettime(Process::CLOCK_MONOTONIC)
          freeze
        end

        # One line, for a log.
        def to_s
          [name, place, reason, said, again].compact.join(" ")
        end

        def inspect
          "#<#{self.class} #{self}>"
        end

        private

        def place
          return partitions && partitions.map { |topic, numbers| "#{topic}/#{numbers.join(",")}" }.join(" ") unless topic

          ["#{topic}/#{partition}", offset && "offset #{offset}#{"..#{last_offset}" if last_offset}"].compact.join(" ")
        end

        def said
          return error && "#{error.message} (#{error.class})" unless size

          "#{size} messages in #{(duration * 1000).round(1)} ms"
        end

        def again
          "attempt #{attempt}#{", again in #{retry_in.round(1)} s" if retry_in}" if error && attempt
        end
      end
    end
  end
end
