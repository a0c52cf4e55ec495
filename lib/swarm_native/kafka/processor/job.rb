# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Processor
      # Messages of one partition that a worker works on.
      # @api private
      class Job
        # @return [Lane]
        attr_reader :lane
        # @return [Array<#size>] the messages, as they came
        attr_reader :chunks
        # @return [Integer] the offset of the first one
        attr_reader :first_offset
        # @return [Integer] from 1: how often work that begins here has begun
        attr_reader :attempt
        # @return [Float]
        attr_reader :started_at
        # @return [Float] when it last got on: when it began, or when a message was done
        attr_reader :moved_at
        # @return [Integer] what is before this offset is done
        attr_reader :done_until

        def initialize(lane, chunks, first_offset, attempt, started_at)
          @lane = lane
          @chunks = chunks
          @first_offset = first_offset
          @attempt = attempt
          @started_at = @moved_at = started_at
          @done_until = first_offset
        end

        # What is before this offset is done.
        def done(until_offset, now)
          @done_until = until_offset
          @moved_at = now
        end

        def size = @chunks.sum(&:size)

        # @return [Integer] messages that are done
        def size_done
          return size if done_until > chunks.last.last.offset

          chunks.sum { |chunk| chunk.count { |message| message.offset < done_until } }
        end

        # For a person.
        def to_s
          "#{lane} from offset #{first_offset} on (#{size} messages)"
        end
      end
    end
  end
end
