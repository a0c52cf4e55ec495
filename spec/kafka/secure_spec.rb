# frozen_string_literal: true

require "spec_helper"
require_relative "../support/kafka_broker"
require_relative "../support/secure_kafka"

RSpec.describe "SwarmNative::Kafka on a Kafka that asks who is there" do
  next unless SwarmNative::Kafka.available?

  include KafkaBroker

  before(:all) do
    why = "needs Java and Maven, for a real Kafka"
    ENV["CI"] ? raise(why) : skip(why) unless RealKafka.available?

    @kafka = SecureKafka.new.start
  end

  after { close_handles }
  after(:all) { @kafka&.stop }

  attr_reader :kafka

  let(:topic) { "topic-#{rand(1 << 40)}" }
  let(:group) { "group-#{rand(1 << 40)}" }

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  def open_producer(config, **more)
    keep SwarmNative::Kafka::Producer.new({ **config, **more })
  end

  def open_consumer(config, **more)
    keep(SwarmNative::Kafka::Consumer.new({ **config, "group.id": group, "auto.offset.reset": "earliest", **more }))
      .subscribe(topic)
  end

  # @return [Array<SwarmNative::Kafka::Error>] what polls raise until the block says that it is enough
  def errors_of(consumer, deadline = 20)
    errors = []
    wait_until(deadline, "enough errors, after #{errors}") do
      consumer.poll(0.05)
      yield errors
    rescue SwarmNative::Kafka::Error => e
      errors << e
      yield errors
    end
    errors
  end

  def with_kafka_error(name, text = //)
    raise_error(SwarmNative::Kafka::Error) { |error| expect([error.name, error.message]).to match [name, text] }
  end

  who = { "a certificate" => ->(kafka) { kafka.tls } }
  SecureKafka::USERS.each_key { |mechanism| who["a password, by #{mechanism}"] = ->(kafka) { kafka.sasl(mechanism) } }
  who.each do |what, config|
    it "lets in who has #{what}, and messages pass" do
      config = config.call(kafka)
      open_producer(config).produce(topic: topic, payload: "hello").wait(20)
      consumer = open_consumer(config)
      expect(take(consumer, 1, 30).map(&:payload)).to eq ["hello"]
      admin = keep(SwarmNative::Kafka::Admin.new(config))
      expect(admin.topics).to include(topic => 1)
    ensure
      admin&.close
      @handles.delete(admin)
    end
  end

  refusals = {
    "trusts another authority" =>
      [->(kafka) { kafka.tls(ca: kafka.other_ca) }, :ssl, /certificate verify failed.*ssl\.ca\.location/],
    "has the wrong password for PLAIN" =>
      [->(kafka) { kafka.sasl("PLAIN", password: "guess") }, :authentication, /Invalid username or password/],
    "has the wrong password for SCRAM-SHA-256" =>
      [->(kafka) { kafka.sasl("SCRAM-SHA-256", password: "guess") }, :authentication, /SASL authentication error/]
  }

  # Attempts that follow each other at once are some twenty a second. Those that keep the pace of reconnect.backoff.ms are
  # at 0, 0, 0.1, 0.3, 0.7, 1.5 and 2.5 s.
  let(:seconds) { 3 }
  let(:most) { 8 }

  refusals.each do |what, (wrong, name, text)|
    it "tells a client that #{what} so by one error, and has it not try again all the time" do
      config = { **wrong.call(kafka), "statistics.interval.ms": 100 }
      told, statistics = [], {}
      producer = open_producer(config, "message.timeout.ms": 1000)
      producer.on_statistics { |some| statistics[:producer] = some }
              .on_error { |error| told << error unless error.retriable? }
      consumer = open_consumer(config).on_statistics { |some| statistics[:consumer] = some }
      started = now
      raised = errors_of(consumer, 30) do |some|
        now - started > seconds && some.any? && told.any? && statistics.size == 2
      end
      passed = now - started
      tried = statistics.transform_values { |some| some["brokers"].values.sum { |broker| broker["connects"] } / passed }

      [raised, told].each do |errors|
        expect(errors.map { |error| [error.name, error.message, error.retriable?, error.fatal?] })
          .to match [[name, text, false, false]]
      end
      expect { producer.produce(topic: topic, payload: "hello").wait(60) }.to with_kafka_error(:msg_timed_out, text)
      expect(tried).to match(producer: be <= most.fdiv(seconds), consumer: be <= most.fdiv(seconds))
      expect(tried.values).to all(be > 0)
    end
  end

  refusals.each do |what, (wrong, name, text)|
    it "tells an administrator that #{what} so by the error of each call, long before its time is over" do
      admin = keep(SwarmNative::Kafka::Admin.new(wrong.call(kafka)))
      started = now
      [-> { admin.topics(timeout: 120) }, -> { admin.create_topic(topic, timeout: 120) }, -> { admin.cluster(timeout: 0.5) }]
        .each do |call|
        expect(&call).to raise_error(SwarmNative::Kafka::Error) { |error|
          expect([error.name, error.message, error.retriable?, error.fatal?]).to match [name, text, false, false]
        }
      end
      expect(now - started).to be < 60
    end
  end

  describe "rights" do
    # Somebody else's alone from now on.
    def restrict(resource, name)
      admin = SwarmNative::Kafka::Admin.new(kafka.superuser)
      admin.create_topic(topic) if resource == :topic
      made = admin.create_acls({ resource: resource, name: name, principal: "User:nobody", operation: :all })
      expect(made).to eq [true]
      wait_until(10, "the rule") { admin.acls(resource: resource, name: name).size == 1 }
    ensure
      admin.close
    end

    it "to a topic are missed by each message and by the polls, which go on" do
      restrict(:topic, topic)
      config = kafka.sasl("SCRAM-SHA-256")
      producer = open_producer(config)
      expect { producer.produce(topic: topic, payload: "x").wait(20) }.to with_kafka_error(:topic_authorization_failed)
      other = "#{topic}-allowed"
      producer.produce(topic: other, payload: "y").wait(20)
      consumer = open_consumer(config).subscribe(topic, other)
      payloads, errors = [], []
      wait_until(30, "an error and a message") do
        consumer.poll(0.1)&.then { |message| payloads << message.payload }
        payloads.any? && errors.any?
      rescue SwarmNative::Kafka::Error => e
        errors << e
        payloads.any?
      end
      expect(payloads).to eq ["y"]
      expect(errors.map(&:name).uniq).to eq [:topic_authorization_failed]
      expect(errors[0].retriable?).to be false
    end

    it "to a group are missed by the polls" do
      restrict(:group, group)
      errors = errors_of(open_consumer(kafka.sasl("SCRAM-SHA-256")), &:any?)
      expect([errors[0].name, errors[0].retriable?]).to eq [:group_authorization_failed, false]
    end
  end
end
