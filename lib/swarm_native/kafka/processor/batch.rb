# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Processor
      # What the block of {Processor#run} gets: messages of one partition, in their order.
      class Batch
        include Enumerable

        # @return [Integer] from 1: how often work that begins with this message has begun
        attr_reader :attempt

        # @api private
        def initialize(job, chunks, worker)
          @job = job
          @chunks = chunks
          @worker = worker
          @attempt = job.attempt
        end

        # @return [String]
        def topic = @job.lane.topic

        # @return [Integer]
        def partition = @job.lane.partition

        # @yieldparam message [Message]
        # @return [self, Enumerator]
        def each(&block)
          return enum_for(:each) { size } unless block

          @chunks.each { |chunk| chunk.each(&block) }
          self
        end

        # @return [Integer] messages
        def size = @chunks.sum(&:size)

        alias length size

        # @return [Integer] the bytes of keys, payloads and headers
        def bytesize = @chunks.sum(&:bytesize)

        # @return [Array<String, nil>] all payloads, made in one go
        def payloads
          @chunks.size == 1 ? @chunks[0].payloads : @chunks.flat_map(&:payloads)
        end

        # @param index [Integer] a negative one counts from the end
        # @return [Message, nil]
        def [](index)
          index += size if index.negative?
          return if index.negative?

          @chunks.each { |chunk| index < chunk.size ? (return chunk[index]) : index -= chunk.size }
          nil
        end

        # @return [Message]
        def last = @chunks.last.last

        # @return [Integer] the offset of the first message
        def first_offset = @chunks.first.first_offset

        # @return [Integer] the offset of the last message
        def last_offset = last.offset

        # This message and those before it are done, whatever becomes of the rest: the next attempt begins after it, and
        # `consuming_ttl` begins anew.
        #
        # @param message [Message] of this batch
        # @return [Boolean] false: the partition is no longer this member's, and the work will be done elsewhere
        def done(message)
          unless message.is_a?(Message) && message.topic == topic && message.partition == partition &&
                 message.offset.between?(first_offset, last_offset)
            raise ArgumentError, "done takes a message of this batch, not #{message.inspect}"
          end

          @worker.done(@job, message)
        end

        # @return [Boolean] true once the group wants the partition back, or has it: end soon
        def revoked? = @worker.revoked?(@job)

        # @return [Boolean] true once the processor is to be quiet or to stop: end soon
        def stopping? = @worker.stopping?

        # @return [String]
        def inspect
          "#<#{self.class} #{topic}/#{partition} offsets #{first_offset}..#{last_offset} attempt #{attempt}>"
        end
      end
    end
  end
end
