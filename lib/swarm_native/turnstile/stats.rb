# frozen_string_literal: true

module SwarmNative
  module Turnstile
    # What the turnstile has seen and done, since it was switched on or during a block ({Turnstile.measure}).
    #
    # @!attribute [r] wake_ups
    #   @return [Integer] how often a light thread has got the GVL after asking for it
    # @!attribute [r] nudges
    #   @return [Integer] how often whoever had the GVL was asked to hand it over
    # @!attribute [r] waits
    #   @return [Hash{Float => Integer}] how long light threads waited for the GVL: a histogram. Each key is a time in
    #     seconds; its value counts the waits up to that time and above the key before
    # @!attribute [r] lost
    #   @return [Float] seconds in which nobody had the GVL because it was being handed over
    # @!attribute [r] time
    #   @return [Float] all of the seconds
    # @!attribute [r] light
    #   @return [Integer] threads that are light now
    # @!attribute [r] heavy
    #   @return [Integer] threads that are heavy now
    Stats = Struct.new(:wake_ups, :nudges, :waits, :lost, :time, :light, :heavy, keyword_init: true) do
      # @return [Float] the part of the time that was lost, which the budget bounds
      def share
        time.positive? ? lost / time : 0.0
      end

      # @param percent [Numeric] from 0 to 100
      # @return [Float, nil] the time in seconds that so many percent of the waits did not exceed; nil: none was seen
      # @raise [ArgumentError]
      def wait(percent)
        unless percent.is_a?(Numeric) && percent.between?(0, 100)
          raise ArgumentError, "percent must be from 0 to 100, got #{percent.inspect}"
        end

        wanted = waits.sum { |_, count| count } * percent / 100.0
        seen = 0
        waits.sort.each { |seconds, count| return seconds if (seen += count) >= wanted }
        nil
      end

      # @private what has come since an earlier one
      def since(earlier)
        more = waits.to_h { |seconds, count| [seconds, count - earlier.waits.fetch(seconds, 0)] }
        self.class.new(wake_ups: wake_ups - earlier.wake_ups, nudges: nudges - earlier.nudges,
                       waits: more.select { |_, count| count.positive? }, lost: lost - earlier.lost,
                       time: time - earlier.time, light: light, heavy: heavy)
      end
    end
  end
end
