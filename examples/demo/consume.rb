# frozen_string_literal: true

require_relative "chaos"
require_relative "ledger"
require_relative "settings"
require_relative "work"

module Demo
  # What every process of the demo does with its messages, alone or as a node of the swarm.
  class Consume
    BATCH = 100

    # @param servers [String] of the Kafka cluster
    # @param topic [String] also the group's name
    # @param folder [String] the run's folder
    # @param node [Integer]
    def initialize(servers, topic, folder, node)
      @config = GROUP.merge("bootstrap.servers": servers, "group.id": topic)
      @topic = topic
      @folder = folder
      @node = node
    end

    # Works until `stopping` says that it is time to stop; it is asked before each batch.
    # @param joined [#call] called once, when the group has given this process its first partitions
    # @param stopping [#call]
    def run(joined:, stopping:)
      ledger = Ledger.new(File.join(@folder, "ledgers"), @node)
      misfortune = Misfortune.new(File.join(@folder, "faults"))
      consumer = SwarmNative::Kafka::Consumer.new(@config)
      consumer.subscribe(@topic)
      until stopping.call
        misfortune.befall
        process(consumer.poll_batch(BATCH, 0.1), consumer, ledger)
        joined = joined.call && nil if joined && !consumer.assignment.empty?
      end
    ensure
      consumer&.close(LEAVE)
    end

    private

    def process(batch, consumer, ledger)
      return if batch.empty?

      ledger.write(batch.payloads.map { |payload| Work.process(payload) })
      # Kafka hears of it only now: who is killed before this line leaves messages to do again, never ones to miss.
      batch.to_h { |message| [message.partition, message] }.each_value { |last| done(consumer, last) }
    end

    def done(consumer, message)
      consumer.store_offset(message)
    rescue SwarmNative::Kafka::Error => e
      # The group has given the partition to another member meanwhile, which does these messages again.
      raise unless e.name == :state
    end
  end
end
