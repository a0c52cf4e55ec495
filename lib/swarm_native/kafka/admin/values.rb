# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Admin
      # @!attribute [r] id
      #   @return [String]
      # @!attribute [r] controller
      #   @return [Integer, nil] a broker's id
      # @!attribute [r] brokers
      #   @return [Array<Broker>]
      Cluster = Struct.new(:id, :controller, :brokers, keyword_init: true)

      # rack is nil where there is none.
      Broker = Struct.new(:id, :host, :port, :rack, keyword_init: true)

      # @!attribute [r] partitions
      #   @return [Array<Partition>]
      Topic = Struct.new(:name, :internal, :partitions, keyword_init: true)

      # leader is nil where there is none; replicas and in_sync are Arrays of brokers' ids.
      Partition = Struct.new(:partition, :leader, :replicas, :in_sync, keyword_init: true)

      # value is nil where it is sensitive. source is a word: "default", "static_broker", "dynamic_topic", ...
      Property = Struct.new(:name, :value, :source, :read_only, :sensitive, keyword_init: true)

      # state and type are words, such as "stable" and "consumer"; simple: no member has ever joined it.
      Group = Struct.new(:name, :state, :type, :simple, keyword_init: true)

      # @!attribute [r] coordinator
      #   @return [Integer, nil] a broker's id
      # @!attribute [r] members
      #   @return [Array<Member>]
      GroupDescription = Struct.new(:name, :state, :type, :simple, :assignor, :coordinator, :members, keyword_init: true)

      # assignment is a Hash: topic to partitions.
      Member = Struct.new(:id, :instance_id, :client_id, :host, :assignment, keyword_init: true)

      # timestamp_ms is nil where there is none, as for a beginning or an end.
      OffsetAt = Struct.new(:offset, :timestamp_ms, keyword_init: true)

      # A rule; its words are Symbols: see {Acls}.
      Acl = Struct.new(:resource, :name, :pattern, :principal, :host, :operation, :permission, keyword_init: true)
    end
  end
end
