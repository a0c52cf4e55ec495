# frozen_string_literal: true

# One embedded broker for all examples of a run; each example uses topics of its own.
module KafkaBroker
  class << self
    # @return [SwarmNative::Kafka::EmbeddedBroker]
    def shared
      @shared ||= SwarmNative::Kafka::EmbeddedBroker.start
    end

    def stop
      @shared&.stop
      @shared = nil
    end

    def new_topic(partitions)
      @count = (@count || 0) + 1
      name = "topic-#{Process.pid}-#{@count}"
      shared.create_topic(name, partitions: partitions)
      name
    end
  end

  def bootstrap_servers = KafkaBroker.shared.bootstrap_servers

  # @return [String] the name of a topic that nobody else uses
  def new_topic(partitions: 1) = KafkaBroker.new_topic(partitions)

  # What a consumer needs that reads a topic from its beginning. The mock cluster's groups take their session timeout,
  # less a second, for each rebalance, and it does not answer a waiting fetch when messages come.
  def consumer_config(**more)
    { "bootstrap.servers": bootstrap_servers, "group.id": "group-#{more.object_id}-#{rand(1 << 40)}",
      "auto.offset.reset": "earliest", "enable.auto.offset.store": false, "session.timeout.ms": 1500,
      "heartbeat.interval.ms": 100, "fetch.wait.max.ms": 10, **more }
  end

  # Produces a message to a topic that it may not write to. Once librdkafka has heard of that it takes none, so it
  # hears of it afterwards.
  # @return [Array(String, SwarmNative::Kafka::Delivery)]
  def produce_refused(producer)
    broker = KafkaBroker.shared.fail_topic(topic = new_topic, 29)
    broker.down
    [topic, producer.produce(topic: topic, payload: "x")]
  ensure
    broker.up
  end

  def open_producer(**more)
    keep SwarmNative::Kafka::Producer.new("bootstrap.servers": bootstrap_servers, **more)
  end

  def open_consumer(*topics, **more)
    keep(SwarmNative::Kafka::Consumer.new(consumer_config(**more))).tap do |consumer|
      consumer.subscribe(*topics) unless topics.empty?
    end
  end

  # Polls until as many messages have come.
  def take(consumer, count, deadline = 15)
    messages = []
    wait_until(deadline, "#{count} messages") do
      messages.concat(consumer.poll_batch(count - messages.size, 0.1).to_a)
      messages.size >= count
    end
    messages
  end

  # Closes a handle after the example.
  def keep(handle)
    (@handles ||= []) << handle
    handle
  end

  def close_handles
    @handles&.each { |handle| handle.close(0.5) }
    @handles = nil
  end
end

RSpec.configure do |config|
  config.include KafkaBroker, :kafka
  config.after(:each, :kafka) { close_handles }
  config.after(:suite) { KafkaBroker.stop }
end
