# frozen_string_literal: true

module Demo
  # Messages a second over a stretch in which everybody works and nothing disturbs. Pure: times come from the ledgers.
  class Throughput
    # What follows the first batch of the last one to come is still settling in.
    WARM_UP = 0.5
    # A shorter stretch says nothing.
    SHORTEST = 1.0

    # @param workers [Integer] how many processes have to be at work
    def initialize(workers)
      @workers = workers
      @came = {}
      @batches = []
    end

    def batch(batch)
      return if batch.results.empty?

      @came[batch.node] ||= batch.time
      @batches << [batch.time, batch.results.size]
    end

    # @return [Float, nil] when the stretch began
    def began_at
      @came.values.max + WARM_UP if @came.size == @workers
    end

    # @param now [Float] the end of the stretch
    def finish(now)
      @ended_at ||= now
    end

    def finished?
      !@ended_at.nil?
    end

    # @return [Float] seconds; 0.0 before it has begun
    def lasted(now = @ended_at)
      began_at && now ? [[now, @ended_at].compact.min - began_at, 0.0].max : 0.0
    end

    # @return [Float, nil] messages a second; nil when the stretch was too short
    def rate
      return if lasted < SHORTEST

      @batches.sum { |time, count| time > began_at && time <= @ended_at ? count : 0 } / lasted
    end
  end
end
