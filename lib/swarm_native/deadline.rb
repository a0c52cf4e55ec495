# frozen_string_literal: true

module SwarmNative
  # A point in time on the monotonic clock, made of the timeout that a caller gave.
  # @api private
  class Deadline
    # Longer waits are cut into pieces. Not every Ruby takes a wait of a million years, and not every Fiber scheduler one
    # without a timeout (async on Ruby 3.1).
    LONGEST_WAIT = 86_400.0

    # @param timeout [Numeric, nil] seconds from now, nil for never
    # @raise [TypeError, ArgumentError] when it is no such number
    def initialize(timeout)
      @due = timeout.nil? ? Float::INFINITY : now + seconds(timeout)
    end

    # @return [Boolean]
    def passed?
      now >= @due
    end

    # @return [Float] seconds to wait at most at a stretch
    def left
      (@due - now).clamp(0.0, LONGEST_WAIT)
    end

    private

    def seconds(timeout)
      unless timeout.is_a?(Numeric) && timeout.real?
        raise TypeError, "a timeout is a number of seconds or nil, got #{timeout.inspect} (#{timeout.class})"
      end

      seconds = timeout.to_f
      return seconds if seconds >= 0

      raise ArgumentError, "a timeout is a number of seconds from 0 on, or nil, got #{timeout.inspect}"
    end

    def now
      Process.clock_gettime(Process::CLOCK_MONOTONIC)
    end
  end
end
