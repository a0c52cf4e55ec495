# frozen_string_literal: true

module Demo
  # How far the producer may go. Pure: time comes in as an argument.
  #
  # The embedded broker keeps about 5 MB a partition and drops what is older without a word. So no more than {LEAD}
  # messages of about 140 bytes are ever on their way: even all in one partition they would fit.
  class Pace
    LEAD = 10_000
    # The last tenth is kept for the time in which the last faults are repaired, and is let go over so many seconds.
    HELD = 0.1
    DRIP = 20.0

    # @return [Integer] the last id that may be produced
    attr_reader :limit

    def initialize(messages)
      @messages = messages
      @limit = 0
      @held = [(messages * HELD).round, 500].max
    end

    # @param processed [Integer]
    # @param now [Float]
    # @param pending [Boolean] whether faults are still to come or to be repaired
    # @return [Integer]
    def advance(processed, now, pending:)
      limit = [processed + LEAD, @messages].min
      limit = [limit, @messages - kept(limit, now)].min if pending
      @limit = [@limit, limit].max
    end

    def finished?
      @limit == @messages
    end

    private

    def kept(limit, now)
      return @held if limit < @messages - @held

      @dripping_since ||= now
      [@held - (@held * (now - @dripping_since) / DRIP).round, 0].max
    end
  end
end
