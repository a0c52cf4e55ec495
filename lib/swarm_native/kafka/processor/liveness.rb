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
        # @param consuming [Float, nil] seconds that a job may take to get on
        def initialize(polling, consuming)
          @polling = polling
          @consuming = consuming
        end

        # @param polled_at [Float] when the listener was last seen
        # @param moved_at [Float, nil] when the job that has stood still for longest last got on
        # @return [Array(String, nil), Array(nil, Float)] what is wrong; or nil and when to look again, nil for never
        def check(now, polled_at, moved_at)
          return ["polling_ttl", nil] if @polling && now - polled_at >= @polling
          return ["consuming_ttl", nil] if @consuming && moved_at && now - moved_at >= @consuming

          # A job that begins later has more time than this.
          [nil, [@polling && (polled_at + @polling), @consuming && ((moved_at || now) + @consuming)].compact.min]
        end
      end
    end
  end
end
