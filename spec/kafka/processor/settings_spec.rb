# frozen_string_literal: true

require "spec_helper"

RSpec.describe "the settings of a SwarmNative::Kafka::Processor" do
  next unless SwarmNative::Kafka.available?

  def processor(config: { "group.id": "g" }, topics: "t", **settings)
    SwarmNative::Kafka::Processor.new(config: config, topics: topics, **settings)
  end

  def refused(message)
    raise_error(SwarmNative::ConfigurationError, message)
  end

  it "are told all at once where they cannot be" do
    expect { processor(config: { "bootstrap.servers": "x", "enable.auto.commit": false }, topics: [], concurrency: 0, speed: 3) }
      .to refused(<<~TEXT.chomp)
        5 problems:
          speed: no such setting; there are config, topics, concurrency, max_batch, max_wait, max_messages, max_bytes, backoff_min, backoff_max, max_attempts, dead_letter, producer, revoke_timeout, shutdown_timeout, polling_ttl, consuming_ttl
          concurrency: 0 given, allowed: an Integer from 1 to 1000
          topics: [] given, allowed: one or more names, or patterns that begin with ^
          config: group.id is missing
          config: enable.auto.commit is false, allowed: true, since the processor stores the offset of a message once it is done, and librdkafka commits it
      TEXT
  end

  it "are refused one by one" do
    { { max_wait: -1 } => /\Amax_wait: -1 given, allowed: seconds from 0 on\z/,
      { max_wait: Float::NAN } => /\Amax_wait: NaN given/,
      { max_batch: 1.5 } => /\Amax_batch: 1.5 given, allowed: an Integer from 1 on\z/,
      { polling_ttl: 0 } => /\Apolling_ttl: 0 given, allowed: seconds above 0, or nil\z/,
      { backoff_min: 5, backoff_max: 2 } => /\Abackoff_max: 2 given, allowed: backoff_min \(5\) or more\z/,
      { max_attempts: 3 } => /\Amax_attempts: 3 given, allowed only with a dead_letter/,
      { dead_letter: :topic } => /\Adead_letter: :topic given, allowed: a topic, something to call, or nil\z/,
      { producer: "p" } => /\Aproducer: "p" given/,
      { dead_letter: "t" } => /\Adead_letter: "t" given, allowed: a topic that is not consumed here.* topics has "t"\z/,
      { topics: ["a", "^orders"], dead_letter: "orders.dead" } => /\Adead_letter: "orders.dead" .* has "\^orders"\z/,
      { topics: [nil] } => /\Atopics: \[nil\] given/,
      { config: "x" } => /config: "x" given, allowed: a Hash/,
      { config: { "group.id" => "g", "enable.auto.offset.store" => true } } => /\Aconfig: enable.auto.offset.store is true/ }
      .each { |settings, message| expect { processor(**settings) }.to refused(message) }
  end

  it "take a dead letter topic beside those that are consumed, and an expression that Ruby does not know" do
    expect(processor(topics: ["t", "^u$", "^(?"], dead_letter: "t.dead")).to be_a SwarmNative::Kafka::Processor
  end

  it "need a block for the work, and names of events that there are" do
    expect { processor.run }.to raise_error(ArgumentError, "a processor needs a block: the work")
    expect { processor.on(:eaten) {} }.to raise_error(ArgumentError, /:eaten: no such event, allowed: consumed, error/)
    expect { processor.on(:error) }.to raise_error(ArgumentError, "on needs a block")
  end

  it "make no handle: a processor may be made where the fork will be" do
    processor
    expect(SwarmNative::ForkGuard.live_handles).to eq []
  end

  it "give the dead letters' producer what it needs to reach the same cluster, and no more" do
    config = { "bootstrap.servers": "x:1", "group.id": "g", "ssl.ca.location": "/ca", "fetch.wait.max.ms": 10,
               "sasl.username": "me", "security.protocol": "sasl_ssl" }
    settings = SwarmNative::Kafka::Processor.const_get(:Settings).new(config: config, topics: "t")
    expect(settings.producer_config.keys)
      .to eq %w[message.max.bytes bootstrap.servers ssl.ca.location sasl.username security.protocol]
    expect(settings.producer_config["message.max.bytes"]).to eq 1_000_000_000
  end
end

RSpec.describe "the liveness of a SwarmNative::Kafka::Processor" do
  next unless SwarmNative::Kafka.available?

  liveness = SwarmNative::Kafka::Processor.const_get(:Liveness)

  [# polling, consuming, now, polled at, job since, what is wrong, look again at
    [10.0, 20.0, 0.0, 0.0, nil, nil, 10.0],
    [10.0, 20.0, 9.9, 0.0, nil, nil, 10.0],
    [10.0, 20.0, 10.0, 0.0, nil, "polling_ttl", nil],
    [10.0, 20.0, 25.0, 24.0, 5.1, nil, 25.1],
    [10.0, 20.0, 25.1, 24.0, 5.1, "consuming_ttl", nil],
    [nil, 20.0, 99.0, 0.0, nil, nil, 119.0],
    [10.0, nil, 99.0, 98.0, 0.0, nil, 108.0],
    [nil, nil, 99.0, 0.0, 0.0, nil, nil]].each do |polling, consuming, now, polled, since, wrong, again|
    it "is #{wrong || "good"} at #{now} s, last polled at #{polled}, a job since #{since.inspect} (#{polling}, #{consuming})" do
      found, at = liveness.new(polling, consuming).check(now, polled, since)
      expect([found, at&.round(6)]).to eq [wrong, again]
    end
  end
end
