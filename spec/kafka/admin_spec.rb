# frozen_string_literal: true

require "spec_helper"
require "timeout"
require_relative "../support/kafka_broker"
require_relative "../support/real_kafka"

RSpec.describe "SwarmNative::Kafka::Admin" do
  next unless SwarmNative::Kafka.available?

  def kafka_error(name)
    raise_error(an_instance_of(SwarmNative::Kafka::Error).and(have_attributes(name: name)))
  end

  def failure(name) = an_instance_of(SwarmNative::Kafka::Error).and(have_attributes(name: name))

  describe "on the embedded broker", :kafka do
    def open_admin(**more) = keep(SwarmNative::Kafka::Admin.new("bootstrap.servers": bootstrap_servers, **more))

    it "tells of topics, offsets and commits" do
      topic = new_topic(partitions: 2)
      producer = open_producer
      3.times { |i| producer.produce(topic: topic, payload: "x", partition: 0, timestamp: 1000 + i) }
      producer.close
      consumer = open_consumer
      consumer.assign(topic => [0])
      consumer.commit(topic => { 0 => 2 })
      admin = open_admin
      expect(admin.topics).to include(topic => 2)
      expect(admin.list_offsets({ topic => { 0 => :latest, 1 => "latest" } }))
        .to match(topic => { 0 => have_attributes(offset: 3, timestamp_ms: nil), 1 => have_attributes(offset: 0) })
      expect(admin.list_offsets({})).to eq({})
    end

    it "says what this broker cannot do" do
      admin = open_admin
      expect { admin.groups }.to kafka_error(:unsupported_feature)
      # It has no controller to ask.
      expect { admin.create_topic("t", timeout: 0.3) }.to kafka_error(:timed_out)
      expect { admin.acls(timeout: 0.3) }.to kafka_error(:timed_out)
    end

    it "refuses what cannot be, before it asks" do
      admin = open_admin
      { -> { admin.create_topics({ "t" => { partition: 1 } }) } => /t: no such property of a new topic: partition/,
        -> { admin.delete_topics } => /no topic was named/,
        -> { admin.list_offsets({ "t" => { 0 => :first } }) } => %r{t/0: :first given, allowed: :earliest, :latest, :max_timestamp},
        -> { admin.describe_configs([:node, "1"]) } => /configuration: :node given, allowed: :topic, :group, :broker/,
        -> { admin.alter_configs({ [:topic, "t"] => { "a" => { add: 1 } } }) } => /a: :add given, allowed: :set, :append/,
        -> { admin.alter_configs({ [:topic, "t"] => { "a" => {} } }) } => /a: {} given, allowed: a value, nil/,
        -> { admin.create_acls({ resource: :topic, name: "t" }) } => /a rule needs principal, operation/,
        -> { admin.create_acls({ resource: :any, name: "t", principal: "User:a", operation: :read }) } => /resource: :any given, which only a filter may have/,
        -> { admin.acls(kind: :topic) } => /no such part of a rule: kind/,
        -> { admin.delete_acls } => /needs a filter/,
        -> { admin.topics(timeout: -1) } => /a timeout is/ }.each do |call, message|
        expect(&call).to raise_error(ArgumentError, message)
      end
      expect { admin.describe_configs("t") }.to raise_error(TypeError, /a pair such as \[:topic, "orders"\], not "t"/)
      expect { admin.describe_topics("a\0b") }.to kafka_error(:invalid_arg)
    end

    it "is closed once, and refuses every call afterwards" do
      admin = open_admin
      expect([admin.closed?, admin.close, admin.closed?, admin.close]).to eq [false, nil, true, nil]
      [-> { admin.topics }, -> { admin.cluster }, -> { admin.delete_topics("t") }, -> { admin.acls }].each do |call|
        expect(&call).to raise_error(SwarmNative::ClosedHandle, "this SwarmNative::Kafka::Admin is closed")
      end
    end

    it "can be interrupted while it waits for an answer, and keeps its time" do
      admin = keep(SwarmNative::Kafka::Admin.new("bootstrap.servers": "127.0.0.1:1"))
      expect { Timeout.timeout(0.2) { admin.cluster } }.to raise_error(Timeout::Error)
      expect { admin.cluster(timeout: 0.5) }.to kafka_error(:timed_out)
      expect { admin.create_topic("t", timeout: 0.5) }.to kafka_error(:timed_out)
      # Nor does what nobody waits for any more hold up its end, after which the process may fork.
      waiting = Thread.new { admin.cluster(timeout: 60) }
      waiting.report_on_exception = false
      wait_until(10, "the request") { waiting.stop? }
      start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      admin.close
      expect { waiting.value }.to kafka_error(:destroy)
      expect(Process.clock_gettime(Process::CLOCK_MONOTONIC) - start).to be < 20
      expect(SwarmNative::ForkGuard.live_handles.grep(/Admin/)).to eq []
    end
  end

  it "holds up a fork while it lives, and is inert in a process that did not make it" do
    result = run_ruby(<<~'RUBY', deadline: 30)
      admin = SwarmNative::Kafka::Admin.new("bootstrap.servers": "127.0.0.1:1")
      begin
        fork {}
      rescue SwarmNative::ForkRefused => e
        puts e.handles
      end
      SwarmNative::ForkGuard.bypass do
        Process.wait(fork do
          admin.topics
        rescue SwarmNative::StaleHandle => e
          GC.start
          puts e.class
        end)
      end
      puts $?.success?
      admin.close
      Process.wait(fork { puts "forked" })
    RUBY
    expect(result.out).to match(/\ASwarmNative::Kafka::Admin rdkafka#producer-1 .*example.rb:1.*\nSwarmNative::StaleHandle\ntrue\nforked\n\z/)
    expect(result.err).to eq ""
  end

  it "ends with its process when nobody has closed it" do
    result = run_ruby('SwarmNative::Kafka::Admin.new("bootstrap.servers": "127.0.0.1:1")')
    expect([result.success?, result.err]).to eq [true, ""]
  end

  describe "on a real Kafka" do
    before(:all) do
      why = "needs Java and Maven, for a real Kafka"
      ENV["CI"] ? raise(why) : skip(why) unless RealKafka.available?

      @kafka = RealKafka.start(partitions: 1, properties: {
        "authorizer.class.name" => "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users" => "User:ANONYMOUS"
      })
      @admin = SwarmNative::Kafka::Admin.new(servers)
    end

    after(:all) do
      @admin&.close
      @kafka&.stop
    end

    attr_reader :admin

    def servers = { "bootstrap.servers": @kafka.bootstrap_servers }

    let(:topic) { "topic-#{rand(1 << 40)}" }

    # Makes the topic, and waits until the broker has heard of it from its controller.
    def make(topic, **more)
      admin.create_topic(topic, **more)
      wait_until(10, "the topic") { admin.describe_topics(topic)[topic].is_a?(SwarmNative::Kafka::Admin::Topic) }
    end

    def fill(topic, count, **more)
      producer = SwarmNative::Kafka::Producer.new(servers)
      count.times { |i| producer.produce(topic: topic, payload: "x", partition: 0, timestamp: 1000 + i, **more) }
      expect(producer.close).to eq({})
    end

    # Joins a group, and gives the member with its first message.
    def join(group, topic, **more)
      consumer = SwarmNative::Kafka::Consumer.new({ **servers, "group.id": group, "auto.offset.reset": "earliest", **more })
      consumer.subscribe(topic)
      message = nil
      wait_until(30, "a message") { message = consumer.poll(0.2) }
      [consumer, message]
    end

    it "makes, describes, enlarges and deletes topics, each with a result of its own" do
      expect(admin.create_topic(topic, partitions: 2, config: { "retention.ms": 60_000 })).to be true
      expect { admin.create_topic(topic) }.to kafka_error(:topic_already_exists)
      expect(admin.create_topics({ "#{topic}-b" => {}, topic => {}, "no name" => {} }))
        .to match("#{topic}-b" => true, topic => failure(:topic_already_exists), "no name" => failure(:topic_exception))
      expect(admin.create_topic("#{topic}-c", validate_only: true)).to be true
      wait_until(10, "both topics") { admin.topics.slice(topic, "#{topic}-b") == { topic => 2, "#{topic}-b" => 1 } }
      expect(admin.topics).not_to include("#{topic}-c")
      described = admin.describe_topic(topic)
      expect([described.name, described.internal, described.partitions.map(&:to_h)])
        .to eq [topic, false, [0, 1].map { |number| { partition: number, leader: 1, replicas: [1], in_sync: [1] } }]
      expect(admin.describe_topics("nobody", topic)).to match("nobody" => failure(:unknown_topic_or_part), topic => described)
      expect(admin.create_partitions({ topic => 4, "#{topic}-b" => 1 }))
        .to match(topic => true, "#{topic}-b" => failure(:invalid_partitions))
      wait_until(10, "the partitions") { admin.topics[topic] == 4 }
      expect(admin.delete_topics(topic, "nobody", ["#{topic}-b"]))
        .to match(topic => true, "nobody" => failure(:unknown_topic_or_part), "#{topic}-b" => true)
      expect { admin.delete_topic("nobody") }.to kafka_error(:unknown_topic_or_part)
      wait_until(10, "the end of the topic") { !admin.topics.key?(topic) }
    end

    it "describes the cluster" do
      cluster = admin.cluster
      host, port = @kafka.bootstrap_servers.split(":")
      expect([cluster.controller, cluster.brokers.map(&:to_h)])
        .to eq [1, [{ id: 1, host: host, port: Integer(port), rack: nil }]]
      expect(cluster.id).to match(/\A[\w-]{22}\z/)
    end

    it "describes and changes configurations, property by property" do
      make(topic, config: { "retention.ms" => 60_000 })
      values = lambda do
        admin.describe_config([:topic, topic]).values_at("retention.ms", "cleanup.policy", "max.message.bytes").map(&:value)
      end
      expect(values.call).to eq %w[60000 delete 1048588]
      changes = { "retention.ms" => 5000, "cleanup.policy" => { append: "compact" }, "max.message.bytes" => 2000 }
      expect(admin.alter_configs({ [:topic, topic] => changes }, validate_only: true)).to eq([:topic, topic] => true)
      expect(values.call).to eq %w[60000 delete 1048588]
      expect(admin.alter_configs({ [:topic, topic] => changes, [:topic, "nobody"] => { "retention.ms" => 1 } }))
        .to match([:topic, topic] => true, [:topic, "nobody"] => failure(:unknown_topic_or_part))
      wait_until(10, "the change") { values.call == ["5000", "delete,compact", "2000"] }
      changes = { "retention.ms" => nil, "cleanup.policy" => { subtract: "delete" } }
      expect(admin.alter_configs({ [:topic, topic] => changes })).to eq([:topic, topic] => true)
      wait_until(10, "the change") { values.call.drop(1) == %w[compact 2000] }
      expect(admin.describe_config([:topic, topic])["retention.ms"].source).not_to eq "dynamic_topic"
      expect(admin.alter_configs({ [:topic, topic] => { "retention.ms" => "a week" } }))
        .to match([:topic, topic] => failure(:invalid_config).and(have_attributes(message: /Invalid value a week/)))
      found = admin.describe_configs([:broker, 1], [:topic, "nobody"])
      expect(found).to match([:broker, 1] => a_hash_including("num.partitions"), [:topic, "nobody"] => failure(:unknown_topic_or_part))
      expect(found[[:broker, 1]]["num.partitions"].to_h)
        .to eq(name: "num.partitions", value: "1", source: "static_broker", read_only: true, sensitive: false)
    end

    it "tells where partitions begin and end, and deletes records" do
      make(topic, partitions: 2)
      fill(topic, 5)
      offset = ->(place) { admin.list_offsets({ topic => { 0 => place } }).dig(topic, 0).to_a }
      expect([:earliest, :latest, :max_timestamp, Time.at(1, 2, :millisecond)].map(&offset))
        .to eq [[0, nil], [5, nil], [4, 1004], [2, 1002]]
      expect(admin.delete_records({ topic => { 0 => 2, 1 => -1 } })).to eq(topic => { 0 => 2, 1 => 0 })
      expect(offset.call(:earliest)).to eq [2, nil]
      expect(admin.delete_records({ topic => { 0 => 99 } })).to match(topic => { 0 => failure(:offset_out_of_range) })
    end

    it "lists and describes groups of both protocols" do
      make(topic, partitions: 2)
      fill(topic, 1)
      %w[consumer classic].each do |protocol|
        group = "#{topic}-#{protocol}"
        consumer, = join(group, topic, "group.protocol": protocol, "client.id": "me", "group.instance.id": "i-#{protocol}")
        expect(admin.groups[group].to_h).to eq(name: group, state: "stable", type: protocol, simple: false)
        found = admin.describe_group(group)
        expect([found.state, found.type, found.coordinator, found.members.size]).to eq ["stable", protocol, 1, 1]
        expect(found.members.first.to_h.slice(:instance_id, :client_id, :host, :assignment))
          .to eq(instance_id: "i-#{protocol}", client_id: "me", host: "/127.0.0.1", assignment: { topic => [0, 1] })
        consumer.close
      end
      expect(admin.describe_groups("nobody").values).to match [failure(:group_id_not_found).or(have_attributes(state: "dead"))]
    end

    it "shows, changes and forgets what a group has committed, and deletes it" do
      make(topic, partitions: 2)
      fill(topic, 5)
      consumer, message = join(topic, topic, "enable.auto.commit": false)
      consumer.commit(message)
      expect(admin.group_offsets(topic)).to eq(topic => { 0 => 1 })
      expect(admin.group_offsets("nobody")).to eq({})
      expect(admin.delete_groups(topic, "nobody")).to match(topic => failure(:non_empty_group), "nobody" => failure(:group_id_not_found))
      expect(admin.alter_group_offsets(topic, { topic => { 0 => 3 } })).to match(topic => { 0 => failure(:unknown_member_id) })
      consumer.close
      expect(admin.alter_group_offsets(topic, { topic => { 0 => 3, 1 => 0 } })).to eq(topic => { 0 => true, 1 => true })
      expect(admin.group_offsets(topic, { topic => [0, 1] })).to eq(topic => { 0 => 3, 1 => 0 })
      expect(admin.delete_group_offsets(topic, { topic => [1] })).to eq(topic => { 1 => true })
      expect(admin.group_offsets(topic, { topic => [0, 1] })).to eq(topic => { 0 => 3 })
      expect(admin.delete_groups(topic)).to eq(topic => true)
      expect(admin.groups).not_to include(topic)
    end

    it "makes, finds and deletes access rules" do
      rule = { resource: :topic, name: topic, principal: "User:alice", operation: :read }
      made = admin.create_acls(rule, { **rule, pattern: :prefixed, operation: "write", permission: :deny, host: "10.0.0.1" },
                               { **rule, principal: "alice" })
      expect(made).to match [true, true, failure(:invalid_request)]
      expect(admin.acls(resource: :topic, name: topic).map(&:to_h))
        .to contain_exactly({ **rule, pattern: :literal, host: "*", permission: :allow },
                            { **rule, pattern: :prefixed, operation: :write, permission: :deny, host: "10.0.0.1" })
      expect(admin.acls(resource: :topic, name: "#{topic}-and-more", pattern: :match).map(&:operation)).to eq [:write]
      first = admin.acls(operation: :read, principal: "User:alice", name: topic).first
      expect(admin.delete_acls(first, { name: topic, operation: :alter })).to eq [[first], []]
      expect(admin.delete_acls({ resource: :topic, name: topic }).flatten.map(&:operation)).to eq [:write]
      expect(admin.acls(name: topic)).to eq []
    end
  end
end
