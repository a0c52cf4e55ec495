# frozen_string_literal: true

require_relative "job"
require_relative "lane"

module SwarmNative
  module Kafka
    class Processor
      # All partitions of a processor: which work is next, what the consumer is to be told, how much may be fetched. It
      # reads no clock, calls nobody and takes no lock, so that all of it can be tried in virtual time.
      #
      # What happens at each moment does not depend on the number of partitions, but on how many of them something is
      # the matter with.
      #
      # Back pressure: a partition may have its share of the room, and a poll asks for no more than what the fullest one
      # is short of its own, so that the others find room. One that has its share is given {PATIENCE}, in which nothing is
      # fetched, since a pause throws away what librdkafka has fetched ahead. One that is full still is paused until it is
      # half empty.
      #
      # @api private
      class Lanes
        # Seconds that a full partition gets before it is paused.
        PATIENCE = 0.05
        # Seconds until a seek that has failed is tried again.
        SEEK_AGAIN = 1.0

        # What the consumer is to be told: lanes to pause and to resume, and lanes to take back to their `seek_to`.
        Orders = Struct.new(:pause, :seek, :resume) do
          def none? = pause.empty? && seek.empty? && resume.empty?
        end

        # @param max_batch [Integer] messages
        # @param max_wait [Float] seconds that the first message of a batch waits for others
        # @param max_messages [Integer] that wait for a worker
        # @param max_bytes [Integer] that they have
        # @param backoff [Range<Float>] seconds: the first wait after a failure, and the longest
        def initialize(max_batch:, max_wait:, max_messages:, max_bytes:, backoff:)
          @max_batch = max_batch
          @max_wait = max_wait
          @max_messages = max_messages
          @max_bytes = max_bytes
          @wait = ->(attempts) { [backoff.begin * (2.0**(attempts - 1)), backoff.end].min }
          @lanes = {}
          @size = @bytes = 0
          @waiting = {} # have messages, and no job
          @running = {}
          @retrying = {}
          @full = {}
          @touched = {} # may have to be paused or resumed
          @quiet = @choked = false
        end

        # @return [Integer] messages that wait for a worker, and their bytes
        attr_reader :size, :bytes

        def quiet? = @quiet

        # @return [Array<Job>] what workers do just now, the oldest first
        def jobs = @running.keys.map(&:job)

        # @return [Boolean] no worker does anything
        def idle? = @running.empty?

        # The group gives partitions.
        # @param partitions [Hash{String => Array<Integer>}]
        def assign(partitions)
          each_place(partitions) { |place| lane_at(place) }
        end

        # The group wants partitions back: nothing begins any more in them.
        # @return [Array<Lane>] those with a job that still runs
        def leave(partitions)
          each_lane(partitions) { |lane| change(lane) { lane.leave } }.select(&:job)
        end

        # Partitions are gone; results of jobs that still run are refused from now on.
        # @return [Array<Job>] these jobs
        def drop(partitions)
          lanes = each_lane(partitions) do |lane|
            change(lane) { lane.drop }
            @lanes.delete([lane.topic, lane.partition])
          end
          lanes.filter_map(&:job)
        end

        # @return [Hash{String => Array<Integer>}] all there are
        def partitions
          @lanes.keys.group_by(&:first).transform_values { |places| places.map(&:last) }
        end

        # Messages have come.
        # @param chunks [Array<#topic, #partition, #size, #bytesize, #first_offset, #slice>]
        def add(chunks, now)
          return if @quiet

          chunks.each do |chunk|
            lane = lane_at([chunk.topic, chunk.partition])
            change(lane, now) { lane.add(chunk, now) }
          end
        end

        # @return [Job, nil] the work of a worker that is free: of what may begin, what has waited longest
        def begin(now)
          lane, = @waiting.find { |candidate, _| candidate.ready?(now, @max_batch, @max_wait) }
          return unless lane

          job = nil
          change(lane, now) { job = lane.begin(now, @max_batch) }
          job
        end

        # @param limit [Integer] more are not counted
        # @return [Integer] partitions in which work may begin
        def ready(now, limit)
          @waiting.each_key.lazy.select { |lane| lane.ready?(now, @max_batch, @max_wait) }.first(limit).size
        end

        # Whether offsets of this job may be stored.
        def current?(job) = job.lane.current?(job)

        # @return [Boolean] false: the result comes too late
        def finish(job, now)
          change(job.lane, now) { job.lane.finish(job) }
        end

        # Whether {#orders} would be something.
        def attention?(now)
          hold_what_is_full(now)
          @retrying.any? { |lane, _| lane.seek_to && lane.due_at <= now && !@quiet } ||
            @touched.any? { |lane, _| pausable?(lane) && wanted?(lane) != lane.paused }
        end

        # @param from [Integer] the first offset that is not done
        # @return [Float, nil] seconds until the next attempt; nil: there is none here
        def fail(job, from, now)
          lane = job.lane
          change(lane, now) { lane.fail(job, from, now, @wait) } or return
          lane.retry_at && (lane.retry_at - now)
        end

        # Nothing begins any more. What waits is forgotten.
        def quiet(now)
          return if @quiet

          @quiet = true
          @lanes.each_value { |lane| change(lane, now) { lane.empty } }
        end

        # How much may be fetched; nil: nothing now.
        # @return [Array(Integer, Integer), nil] messages and bytes
        def room(now)
          return [1, 1] if @quiet
          return if @choked_since && !@choked && now < @choked_since + PATIENCE
          return if @full.any? { |lane, _| !lane.held? && now < lane.full_since + PATIENCE }

          # Nothing comes from paused partitions, and a poll has to ask for something.
          fetched = [*@waiting.keys, *@running.keys].reject(&:held?)
          messages, bytes = share
          room = scarce? && @size < half ? half : @max_messages
          [[room - @size, messages - (fetched.map(&:size).max || 0)].min.clamp(1..),
           [@max_bytes - @bytes, [@max_bytes / 2 - @bytes, bytes - (fetched.map(&:bytes).max || 0)].max].min.clamp(1..)]
        end

        # What the consumer is to be told now. The caller does so, and says what has come of it by {#paused},
        # {#resumed}, {#sought} and {#not_sought}.
        # @return [Orders]
        def orders(now)
          hold_what_is_full(now)
          @retrying.keys.each { |lane| change(lane, now) { lane.retry(now) } if lane.due_at <= now && !@quiet }
          orders = Orders.new([], [], [])
          @touched.each_key { |lane| order(lane, orders) }
          @touched = {}
          @retrying.each_key { |lane| orders.seek << lane if lane.seek_to && lane.due_at <= now } unless @quiet
          orders
        end

        def paused(lane)
          lane.paused = true
        end

        def resumed(lane)
          lane.paused = false
        end

        def sought(lane)
          lane.sought
        end

        def not_sought(lane, now)
          lane.not_sought(now + SEEK_AGAIN)
        end

        # @param free [Boolean] whether a worker is free
        # @return [Float, nil] when something is due after `now`, if nothing comes before
        def due_at(now, free)
          times = @retrying.keys.map(&:due_at)
          times.concat(@full.keys.reject(&:held?).map { |lane| lane.full_since + PATIENCE })
          times << (@choked_since + PATIENCE) if @choked_since && !@choked
          # What may begin already has been told to a worker.
          times.concat(@waiting.keys.filter_map { |lane| lane.ready_at(@max_wait) }.select { |at| at > now }) if free
          @quiet ? nil : times.min
        end

        private

        def each_place(partitions)
          partitions.flat_map { |topic, numbers| numbers.map { |number| yield [topic, number] } }
        end

        def each_lane(partitions)
          each_place(partitions) { |place| @lanes[place]&.tap { |lane| yield lane } }.compact
        end

        def lane_at(place)
          @lanes[place] ||= Lane.new(*place, after: @running.keys.find { |lane| lane.place == place }).tap do |lane|
            @touched[lane] = true
          end
        end

        # Keeps the sums and the sets in step with what becomes of a lane.
        def change(lane, now = nil)
          @size -= lane.size
          @bytes -= lane.bytes
          result = yield
          @size += lane.size
          @bytes += lane.bytes
          lane.fill(now, *share) if now
          put(@waiting, lane, lane.startable?)
          put(@running, lane, lane.job)
          put(@retrying, lane, lane.state == :retrying)
          put(@full, lane, lane.full_since)
          @touched[lane] = true
          result
        end

        def put(set, lane, belongs)
          belongs ? set[lane] ||= true : set.delete(lane)
        end

        # What one partition may have of the room: as much as any other. Where that is no whole batch, half of the room goes
        # to whoever is first, in batches; the other half is shared, so that there is some for everybody.
        def share
          lanes = [@lanes.size, 1].max
          bytes = [@max_bytes / lanes, 1].max
          return [@max_messages / lanes, bytes] unless scarce?

          [@size < half ? [@max_batch, half].min : [(@max_messages - half) / lanes, 1].max, bytes]
        end

        # Whether there is no room for a batch of each partition.
        def scarce? = @lanes.size > 1 && @lanes.size * @max_batch > @max_messages

        def half = (@max_messages + 1) / 2

        def hold_what_is_full(now)
          @full.each_key do |lane|
            next if lane.held? || now < lane.full_since + PATIENCE

            lane.hold
            @touched[lane] = true
          end
          choke(now)
        end

        # Partitions may be too many for each to have room for a batch.
        def choke(now)
          if @size >= @max_messages || @bytes >= @max_bytes
            @choked_since ||= now
            choked = @choked || now >= @choked_since + PATIENCE
          else
            @choked_since = nil
            choked = @choked && (@size * 2 > @max_messages || @bytes * 2 > @max_bytes)
          end
          return if choked == @choked

          @choked = choked
          @lanes.each_value { |lane| @touched[lane] = true }
        end

        def order(lane, orders)
          return unless pausable?(lane)

          wanted = wanted?(lane)
          orders.pause << lane if wanted && !lane.paused
          orders.resume << lane if !wanted && lane.paused
        end

        def pausable?(lane) = %i[open retrying].include?(lane.state)

        # Whether it is to be paused.
        def wanted?(lane)
          @quiet || @choked || lane.held? || lane.state == :retrying
        end
      end
    end
  end
end
