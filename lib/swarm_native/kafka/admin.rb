# frozen_string_literal: true

require_relative "admin/values"
require_relative "admin/topics"
require_relative "admin/configs"
require_relative "admin/groups"
require_relative "admin/acls"
require_relative "tokens"

module SwarmNative
  module Kafka
    # What an operator asks of a cluster. Thread-safe.
    #
    # A call about several items gives a Hash with what has become of each: a value, true where there is none, or a
    # {Kafka::Error}, which is not raised. A call about one item raises its failure. What keeps the whole request from
    # being answered is raised by both.
    #
    # @example
    #   admin = SwarmNative::Kafka::Admin.new("bootstrap.servers": "127.0.0.1:9092")
    #   admin.create_topic("orders", partitions: 12, config: { "retention.ms" => 86_400_000 })
    #   admin.delete_topics("old", "older") # => { "old" => true, "older" => #<... unknown_topic_or_part> }
    #   admin.close
    #
    # @!method closed?
    #   @return [Boolean]
    # @!method name
    #   @return [String] librdkafka's name of it
    class Admin
      include Topics
      include Configs
      include Groups
      include Acls
      include Tokens

      # Seconds that a cluster has for an answer.
      TIMEOUT = 30.0

      # A call waits for brokers that come back, or let the client in at last. librdkafka's own default is ten seconds.
      RECONNECT = { "reconnect.backoff.max.ms": 1000 }.freeze
      private_constant :RECONNECT

      private_class_method :native_open

      # @param config [Hash] librdkafka's own property names, as for {Producer.new}
      # @param token [#call, nil] with `"sasl.mechanisms": "OAUTHBEARER"`: as for {Consumer.new}, called on a thread of its
      #   own, which has the client live until {#close}. After a failure it is called again at the latest by the next call
      # @raise [ConfigurationError] names every property that is unknown or has a value that cannot be
      def self.new(config = {}, token: nil, **more)
        config = config.to_h.merge(more)
        config = RECONNECT.merge(config) unless config.any? { |name, _| name.to_s.start_with?("reconnect.backoff.") }
        native_open(config, Kafka.made_at, !token.nil?).tap { |admin| admin.send(:give_tokens, token) if token }
      end

      # @param timeout [Float] seconds
      # @return [Cluster] its id, its controller and its brokers
      # @raise [Kafka::Error]
      def cluster(timeout: TIMEOUT)
        found = Kafka.wait { native_cluster(timeout) }
        brokers = found.fetch(:brokers).map { |broker| Broker.new(**broker).freeze }
        Cluster.new(**found, brokers: brokers.freeze).freeze
      end

      # Ends the handle; requests under way fail. Only the first call does.
      #
      # @return [nil]
      def close(*)
        Kafka.wait { native_close }
        nil
      end

      # @return [String]
      def inspect
        "#<#{self.class} #{name}>"
      end

      private

      def give_tokens(token)
        @token = token
        thread = Thread.new do
          loop { fetch_token(native_wanted_token) }
        rescue ClosedHandle
          nil # The client is closed.
        end
        thread.name = "swarm admin"
      end

      # The result of one item.
      def only(results)
        result = results.values.first
        raise result if result.is_a?(Exception)

        result
      end

      def names(what, given)
        given = given.flatten
        return given.map(&:to_s) unless given.empty?

        raise ArgumentError, "no #{what} was named"
      end

      # topic => [partitions] or topic => { partition => place }, as a list.
      def places(partitions)
        raise TypeError, "partitions are a Hash by topic, not #{partitions.inspect}" unless partitions.is_a?(Hash)

        partitions.flat_map { |topic, numbers| Array(numbers).map { |number, place| [topic.to_s, number, place] } }
      end

      def number_of(what, words, word)
        words.fetch(word.to_s.to_sym) do
          raise ArgumentError, "#{what}: #{word.inspect} given, allowed: #{words.keys.map(&:inspect).join(", ")}"
        end
      end

      # Puts values in place of Hashes, and leaves failures.
      def each_value(results)
        results.transform_values { |result| result.is_a?(Exception) ? result : yield(result) }
      end
    end
  end
end
