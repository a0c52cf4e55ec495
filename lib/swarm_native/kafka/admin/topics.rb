# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Admin
      # Topics and their records.
      module Topics
        # What {#list_offsets} knows besides moments.
        PLACES = { earliest: -2, latest: -1, max_timestamp: -3 }.freeze
        private_constant :PLACES

        # @param name [String]
        # @param partitions [Integer] -1: the broker's default
        # @param replication_factor [Integer] -1: the broker's default
        # @param config [Hash] the topic's own properties
        # @param validate_only [Boolean] only says whether it could be
        # @param timeout [Float] seconds
        # @return [true]
        # @raise [Kafka::Error] such as `:topic_already_exists`
        def create_topic(name, partitions: -1, replication_factor: -1, config: {}, validate_only: false,
                         timeout: TIMEOUT)
          about = { partitions: partitions, replication_factor: replication_factor, config: config }
          only(create_topics({ name => about }, validate_only: validate_only, timeout: timeout))
        end

        # @param topics [Hash{String => Hash}] names, with what {#create_topic} takes
        # @param validate_only [Boolean]
        # @param timeout [Float] seconds
        # @return [Hash{String => true, Kafka::Error}]
        def create_topics(topics, validate_only: false, timeout: TIMEOUT)
          list = topics.map do |name, about|
            unknown = about.keys - %i[partitions replication_factor config]
            raise ArgumentError, "#{name}: no such property of a new topic: #{unknown.join(", ")}" if unknown.any?

            config = about.fetch(:config, {}).map { |property, value| [property.to_s, value.to_s] }
            [name.to_s, about.fetch(:partitions, -1), about.fetch(:replication_factor, -1), config]
          end
          Kafka.wait { native_create_topics(list, validate_only, timeout) }
        end

        # @param names [Array<String>]
        # @param timeout [Float] seconds
        # @return [Hash{String => true, Kafka::Error}]
        def delete_topics(*names, timeout: TIMEOUT)
          list = names("topic", names)
          Kafka.wait { native_delete_topics(list, timeout) }
        end

        # @param name [String]
        # @param timeout [Float] seconds
        # @return [true]
        # @raise [Kafka::Error]
        def delete_topic(name, timeout: TIMEOUT)
          only(delete_topics(name, timeout: timeout))
        end

        # @param totals [Hash{String => Integer}] how many partitions each topic is to have in the end
        # @param validate_only [Boolean]
        # @param timeout [Float] seconds
        # @return [Hash{String => true, Kafka::Error}]
        def create_partitions(totals, validate_only: false, timeout: TIMEOUT)
          list = totals.map { |name, total| [name.to_s, total] }
          Kafka.wait { native_create_partitions(list, validate_only, timeout) }
        end

        # Deletes the records before these offsets.
        #
        # @param offsets [Hash{String => Hash{Integer => Integer}}] topic, partition, offset; -1 is the end
        # @param timeout [Float] seconds
        # @return [Hash{String => Hash{Integer => Integer, Kafka::Error}}] the first offset that is left
        def delete_records(offsets, timeout: TIMEOUT)
          list = places(offsets)
          Kafka.wait { native_delete_records(list, timeout) }
        end

        # @param timeout [Float] seconds
        # @return [Hash{String => Integer}] all topics, with the number of their partitions
        # @raise [Kafka::Error]
        def topics(timeout: TIMEOUT)
          Kafka.wait { native_topics(timeout) }
        end

        # @param names [Array<String>]
        # @param timeout [Float] seconds
        # @return [Hash{String => Topic, Kafka::Error}]
        def describe_topics(*names, timeout: TIMEOUT)
          list = names("topic", names)
          each_value(Kafka.wait { native_describe_topics(list, timeout) }) do |topic|
            partitions = topic.fetch(:partitions).map { |partition| Partition.new(**partition).freeze }
            Topic.new(**topic, partitions: partitions.freeze).freeze
          end
        end

        # @param name [String]
        # @param timeout [Float] seconds
        # @return [Topic]
        # @raise [Kafka::Error]
        def describe_topic(name, timeout: TIMEOUT)
          only(describe_topics(name, timeout: timeout))
        end

        # @param asked [Hash{String => Hash{Integer => Symbol, Time}}] topic, partition, and `:earliest`, `:latest`,
        #   `:max_timestamp` (the newest record), or a moment: the first record from then on
        # @param committed [Boolean] transactions under way count as the end
        # @param timeout [Float] seconds
        # @return [Hash{String => Hash{Integer => OffsetAt, Kafka::Error}}]
        def list_offsets(asked, committed: false, timeout: TIMEOUT)
          list = places(asked).map do |topic, partition, place|
            place = place.is_a?(Time) ? (place.to_r * 1000).ceil : number_of("#{topic}/#{partition}", PLACES, place)
            [topic, partition, place]
          end
          Kafka.wait { native_list_offsets(list, committed, timeout) }.transform_values do |partitions|
            each_value(partitions) { |found| OffsetAt.new(**found).freeze }
          end
        end
      end
    end
  end
end
