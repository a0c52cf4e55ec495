# frozen_string_literal: true

require "support/karafka_app"

RSpec.describe "the drop-in's messages", :karafka, :kafka, :test_gems do
  # Runs code with `plain` and `fast`, which give the messages of a topic by two consumers of the binding, the second one
  # served by the drop-in; `inside`, which tells all that is in a message; and `$read`, how many were read in Rust.
  def read(topic, code, before: "", **options)
    env = { "SERVERS" => bootstrap_servers, "TOPIC" => topic, "VERSION" => KarafkaApp::VERSIONS.last,
            **test_gems_env }
    run_ruby(<<~'RUBY'.sub("BEFORE") { before } + code, env: env, deadline: KarafkaApp::PATIENCE, **options)
      gem "karafka", "= #{ENV.fetch("VERSION")}"
      require "karafka"
      require "swarm_native/karafka"
      BEFORE
      $read = 0
      SwarmNative::ForeignMessages.singleton_class.prepend(Module.new do
        def take(...) = super.tap { |message| $read += 1 if message }
      end)
      Client = Struct.new(:revoked_partitions) { def rebalance_manager = self }
      poll = lambda do |count, served|
        consumer = Rdkafka::Config.new("bootstrap.servers": ENV.fetch("SERVERS"), "group.id": "g",
                                       "auto.offset.reset": "earliest").consumer
        SwarmNative::Karafka::FastPoll.serve(consumer, Client.new({})) if served
        list = Rdkafka::Consumer::TopicPartitionList.new
        list.add_topic_and_partitions_with_offsets(ENV.fetch("TOPIC"), 0 => 0)
        consumer.assign(list)
        all = []
        all.concat([consumer.poll(100)].compact) until all.size >= count
        consumer.close
        all
      end
      plain = ->(count) { poll.call(count, false) }
      fast = ->(count) { poll.call(count, true) }
      inside = lambda do |value|
        case value
        when String then [value, value.encoding, value.frozen?]
        when Array then [value.map(&inside), value.frozen?]
        when Hash then [value.to_a.map { |pair| pair.map(&inside) }, value.frozen?]
        when Rdkafka::Consumer::Message
          value.instance_variables.map { |name| [name, inside.call(value.instance_variable_get(name))] }
        when Time then [value.to_r, value.utc_offset, value.frozen?]
        else [value, value.class]
        end
      end
    RUBY
  end

  # @return [String] the topic, with messages of all kinds
  def odd_messages
    new_topic.tap do |topic|
      producer = open_producer("message.max.bytes": 3_000_000)
      [
        { payload: "first" }, { payload: nil }, { payload: "", key: "" }, { payload: "\xff\x00".b, key: "schlüssel" },
        { payload: "x", headers: { "one" => "1" } }, { payload: "x" * 1_000_000, timestamp: Time.at(1, 234, :millisecond) },
        { payload: "x", headers: [["a", "1"], ["b", nil], ["a", "2"], ["\xff".b, ""], ["a", "\xfe".b]] },
        { payload: "x", timestamp: 0 }, { payload: "last", key: nil, headers: { "b" => ["1", "2"] } }
      ].each { |message| producer.produce(topic: topic, partition: 0, **message) }
      expect(producer.close(20)).to eq({})
    end
  end

  it "are in everything what the binding makes of them, in a class of the binding's" do
    result = read(odd_messages, <<~'RUBY')
      ours, theirs = fast.call(9), plain.call(9)
      ours.zip(theirs).each { |pair| p pair.map(&inside) unless pair.map(&inside).uniq.size == 1 }
      p ours.map(&:class).uniq, $read.between?(3, 7), ours[6].headers.transform_keys(&:b)
    RUBY
    expect(result).to be_success, result.inspect
    # Two are made both ways: the first one, and the first with headers. Those that were waited for are the binding's.
    expect(result.out.lines(chomp: true))
      .to eq(["[Rdkafka::Consumer::Message]", "true", { "a" => ["1", "2", "\xFE".b], "b" => "", "\xFF".b => "" }.inspect])
  end

  it "survive the collector, and keep nothing of librdkafka's" do
    result = read(odd_messages, <<~'RUBY')
      kept = fast.call(9)
      GC.stress = true
      more = fast.call(9)
      GC.stress = false
      GC.compact if GC.respond_to?(:compact)
      p kept.map(&inside) == plain.call(9).map(&inside), more.map(&inside) == kept.map(&inside)
    RUBY
    expect(result.out).to eq("true\ntrue\n"), result.inspect
  end

  it "are the binding's own where those are not what is known" do
    result = read(odd_messages, <<~'RUBY', before: <<~'CHANGED')
      messages = fast.call(9)
      p messages.map { |message| message.instance_variable_get(:@tenth) }.uniq, $read, messages.last.payload
    RUBY
      Rdkafka::Consumer::Message.prepend(Module.new do
        def initialize(native)
          super
          @tenth = native[:offset] / 10
        end
      end)
    CHANGED
    expect(result.out).to eq("[0]\n0\n\"last\"\n"), result.inspect
  end
end
