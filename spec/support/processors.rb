# frozen_string_literal: true

require_relative "kafka_broker"

# What examples of a Processor share: a group of their own, runs that end with them, and what was told.
RSpec.shared_context "with processors" do
  around do |example|
    logger = SwarmNative.logger
    SwarmNative.logger = nil
    example.run
  ensure
    SwarmNative.logger = logger
  end

  after do
    @runs&.each do |processor, thread|
      processor.stop
      thread.join(60) or thread.kill
    rescue Exception # rubocop:disable Lint/RescueException -- what ended a run is the example's, and it has seen it
      nil
    end
  end

  let(:group) { "group-#{Process.pid}-#{rand(1 << 40)}" }
  let(:events) { Queue.new }
  # What was told so far, in order.
  let(:told) { [] }

  def config(**more)
    { "bootstrap.servers": bootstrap_servers, "group.id": group, "group.protocol": "consumer",
      "auto.offset.reset": "earliest", "fetch.wait.max.ms": 10, **more }
  end

  # A topic with these payloads, in turn on its partitions.
  def topic_with(payloads, partitions: 1)
    new_topic(partitions: partitions).tap { |topic| fill(topic, payloads, partitions) }
  end

  def fill(topic, payloads, partitions = 1)
    producer = open_producer
    payloads.each_with_index { |payload, i| producer.produce(topic: topic, payload: payload, partition: i % partitions) }
    expect(producer.close(20)).to eq({})
  end

  def processor(topic, config: self.config, **settings)
    SwarmNative::Kafka::Processor.new(config: config, topics: topic, max_wait: 0.0, backoff_min: 0.05,
                                      **settings).tap do |processor|
      processor.on(*SwarmNative::Kafka::Processor::Event::NAMES - [:lag]) { |event| told << event }
    end
  end

  # Runs it in a thread until the example ends.
  def start(processor, method = :run, node = nil, &work)
    thread = Thread.new { processor.public_send(method, node, &work) }
    thread.report_on_exception = false
    (@runs ||= []) << [processor, thread]
    thread
  end

  # Stops it, and gives what `run` gives or raises.
  def stop(processor)
    processor.stop
    thread = @runs.assoc(processor).last
    thread.join(60) or raise "it did not stop"
    thread.value
  end

  def named(name) = told.select { |event| event.name == name }

  # What the group has committed for the topic.
  def committed(topic)
    @asker ||= keep(SwarmNative::Kafka::Consumer.new(config("group.protocol": "classic")))
    @asker.assign(topic => [0, 1, 2, 3])
    @asker.committed(10)[topic] || {}
  end
end
