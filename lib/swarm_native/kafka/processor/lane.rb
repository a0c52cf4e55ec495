# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Processor
      # One partition's way through a processor, as a state machine. It reads no clock and calls nobody: times come in,
      # and what it has become is read off it.
      #
      # | state | add | begin | finish | fail | seek done, time over | leave | drop |
      # |---|---|---|---|---|---|---|---|
      # | `:open` | queues | job runs | stays | `:retrying` | | `:leaving` | `:gone` |
      # | `:retrying` | forgets | no | | | `:open` | `:gone` | `:gone` |
      # | `:leaving` | forgets | no | `:gone` | `:gone` | | stays | `:gone` |
      # | `:gone` | forgets | no | refused | refused | | stays | stays |
      #
      # Offsets of a job count as long as the lane is `:open` or `:leaving` and has not been given a later job.
      #
      # @api private
      class Lane
        # @return [String]
        attr_reader :topic
        # @return [Integer]
        attr_reader :partition
        # @return [Symbol] `:open`, `:retrying`, `:leaving` or `:gone`
        attr_reader :state
        # @return [Job, nil] what a worker does just now
        attr_reader :job
        # @return [Integer] messages that wait for a worker, and their bytes
        attr_reader :size, :bytes
        # @return [Float, nil] since when the first of them waits
        attr_reader :since
        # @return [Float, nil] since when it has had its share of the room
        attr_reader :full_since
        # @return [Float, nil] when it goes on after a failure
        attr_reader :retry_at
        # @return [Integer, nil] the offset to go back to first
        attr_reader :seek_to
        # @return [Boolean] whether the consumer has been told to pause it
        attr_accessor :paused

        # @param after [Lane, nil] an earlier life of this partition, whose job still runs: it is waited for
        def initialize(topic, partition, after: nil)
          @topic = topic
          @partition = partition
          @after = after
          @state = :open
          @paused = false
          @attempts = 0
          empty
        end

        def place = [topic, partition]

        # True when it has work and no worker.
        def startable?
          @state == :open && @job.nil? && @size.positive?
        end

        # Messages have come.
        # @param chunk [#size, #bytesize, #slice, #first_offset] of this partition
        # @return [Boolean] false: they are forgotten, and come again
        def add(chunk, now)
          return false unless @state == :open

          @since ||= now
          @chunks << chunk
          @size += chunk.size
          @bytes += chunk.bytesize
          true
        end

        # True when a worker may begin: there is a batch, as much as the partition may have, or the time is over.
        # @param batch [Integer] messages that make a batch full
        # @param wait [Float] how long the first message waits for others
        def ready?(now, batch, wait)
          startable? && free? && (@size >= batch || @full_since || @held || now >= @since + wait)
        end

        # @return [Float, nil] when that will be, if nothing comes any more
        def ready_at(wait)
          @since + wait if startable? && free?
        end

        # Begins a job with up to so many messages.
        # @return [Job]
        def begin(now, batch)
          chunks = take(batch)
          first = chunks.first.first_offset
          # The same offset again is another attempt at the same work.
          @attempts = 0 unless first == @attempted
          @attempted = first
          @since = nil if @size.zero?
          @job = Job.new(self, chunks, first, @attempts + 1, now)
        end

        # Whether offsets of this job may still be stored.
        def current?(job)
          @job.equal?(job) && %i[open leaving].include?(@state)
        end

        # The job is done.
        # @return [Boolean] false: its result comes too late
        def finish(job)
          settle(job) do
            @attempts = 0
            @attempted = nil
          end
        end

        # The job has failed, and is tried again later from `from` on.
        # @param wait [Proc] gives the seconds until the next attempt, by the number of those that have failed
        # @return [Boolean] false: that does not matter any more
        def fail(job, from, now, wait)
          settle(job) do
            @attempts = from == @attempted ? @attempts + 1 : 1
            @attempted = from
            next if @state == :gone

            empty
            @state = :retrying
            @retry_at = now + wait.call(@attempts)
            @seek_to = from
            @seek_at = now
          end
        end

        # The consumer has gone back.
        def sought
          @seek_to = nil
        end

        # The consumer could not go back just now.
        def not_sought(at)
          @seek_at = at
        end

        # @return [Float, nil] when the next step after a failure is due
        def due_at
          @seek_to ? @seek_at : @retry_at
        end

        # Goes on after a failure.
        def retry(now)
          return unless @state == :retrying && @seek_to.nil? && now >= @retry_at

          @state = :open
          @retry_at = nil
        end

        # The group takes the partition: what has begun may end, nothing begins any more.
        def leave
          return if @state == :gone

          empty
          @state = @job ? :leaving : :gone
        end

        # The partition is gone, and so is the result of a job that still runs.
        def drop
          empty
          @state = :gone
        end

        # Forgets what waits: it comes again, here or elsewhere, since its offsets are not stored.
        def empty
          @chunks = []
          @size = @bytes = 0
          @since = @full_since = nil
          @held = false
        end

        # Notes whether it has its share of the room.
        def fill(now, messages, bytes)
          if @size >= messages || @bytes >= bytes
            @full_since ||= now
          else
            @full_since = nil
          end
          @held = false if @size * 2 <= messages && @bytes * 2 <= bytes
        end

        # It has been full for too long: let it be emptied before it gets more.
        def hold
          @held = true
        end

        def held? = @held

        def to_s = "#{topic}/#{partition}"

        private

        def free?
          @after = nil if @after && @after.job.nil?
          @after.nil?
        end

        def settle(job)
          return false unless @job.equal?(job)

          @job = nil
          return false if @state == :gone

          @state = :gone if @state == :leaving
          yield
          true
        end

        def take(batch)
          taken = []
          room = batch
          while room.positive? && (chunk = @chunks.first)
            if chunk.size <= room
              @chunks.shift
            else
              @chunks[0] = chunk.slice(room, chunk.size - room)
              chunk = chunk.slice(0, room)
            end
            taken << chunk
            room -= chunk.size
            @size -= chunk.size
            @bytes -= chunk.bytesize
          end
          taken
        end
      end
    end
  end
end
