# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Processor
      # Whether a processor gets on: it reads no clock.
      # @api private
      class Liveness
        # Code a reason, as the node reports it.
        CODES = { "polling_ttl" => 1, "consuming_ttl" => 2 }.freeze

        # @param polling [Float, nil] seconds that may pass between two polls
        # @param consuming [Float, nil] seconds that a job may take
        def initialize(polling, consuming)
          @polling = polling
          @consuming = consuming
        end

        # @param polled_at [Float] when the listener was last seen
        # @param started_at [Float, nil] when the oldest job that runs has begun
        # @return [Array(String, nil), Array(nil, Float)] what is wrong; or nil and when to look again, nil for never
        def check(now, polled_at, started_at)
          return ["polling_ttl", nil] if @polling && now - polled_at >= @polling
          return ["consuming_ttl", nil] if @consuming && started_at && now - started_at >= @consuming

          # A job that begins later has more time than this.
          [nil, [@polling && (polled_at + @polling), @consuming && ((started_at || now) + @consuming)].compact.min]
        end
      end
    end
  end
end
