# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Processor
      # How many messages are not done yet, by librdkafka's statistics: nobody has to be asked.
      # @api private
      module Lag
        # @param statistics [Hash]
        # @return [Hash{String => Hash{Integer => Integer}}] of partitions that are this member's and of which enough is
        #   known
        def self.of(statistics)
          statistics.fetch("topics", {}).each_with_object({}) do |(topic, about), all|
            about.fetch("partitions", {}).each_value do |partition|
              lag = one(partition)
              (all[topic] ||= {})[partition["partition"]] = lag if lag
            end
          end
        end

        def self.one(partition)
          return if partition["partition"].negative? || %w[none stopped].include?(partition["fetch_state"])

          high = partition["hi_offset"]
          # Nothing done yet means that it begins where the partition does.
          done = [partition["stored_offset"], partition["committed_offset"], partition["lo_offset"]]
                 .find { |offset| offset.is_a?(Integer) && !offset.negative? }
          [high - done, 0].max if done && high >= 0
        end
        private_class_method :one
      end
    end
  end
end
