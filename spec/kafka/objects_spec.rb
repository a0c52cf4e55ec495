# frozen_string_literal: true

require "spec_helper"

RSpec.describe "the objects of SwarmNative::Kafka" do
  next unless SwarmNative::Kafka.available?

  prelude = <<~'RUBY'
    K = SwarmNative::Kafka
    Thread.report_on_exception = false
    broker = K::EmbeddedBroker.start(topics: { "t" => 3 })
    servers = { "bootstrap.servers": broker.bootstrap_servers }
    config = { **servers, "group.id": "g", "auto.offset.reset": "earliest", "enable.auto.offset.store": false,
               "session.timeout.ms": 1500, "heartbeat.interval.ms": 100, "fetch.wait.max.ms": 10 }
    compact = -> { GC.compact if GC.respond_to?(:compact) }
    # Every object that can move does.
    move = lambda do
      heap = RUBY_VERSION < "3.2" ? :double_heap : :expand_heap
      GC.verify_compaction_references(toward: :empty, heap => true) if GC.respond_to?(:verify_compaction_references)
    end
    require "weakref"
  RUBY

  define_method(:lines) do |code, **options|
    result = run_ruby("#{prelude}\n#{code}\nbroker.stop", **options)
    expect(result).to be_success, result.inspect
    result.out.lines(chomp: true)
  end

  it "of a batch outlive everything they came from, under a stressed collector and compaction" do
    expect(lines(<<~'RUBY', deadline: 90)).to eq %w[true true true true]
      producer = K::Producer.new(servers)
      sent = Array.new(30) do |i|
        { topic: "t", partition: i % 3, payload: "p#{i}" * 50, key: "k#{i}", headers: [["n", i.to_s], ["n", nil]] }
      end
      producer.produce_many(sent).wait(20)
      producer.close
      consumer = K::Consumer.new(config).subscribe("t")
      batches = []
      wait_until(30) { batches << consumer.poll_batch(100, 0.1); batches.sum(&:size) >= 30 }
      consumer.close
      consumer = nil
      parts = batches.reject(&:empty?).flat_map(&:by_partition)
      slices = parts.map { |part| part.slice(1, part.size - 1) }
      messages = parts.flat_map(&:to_a)
      batches = nil
      move.call
      seen = -> { messages.map { |m| [m.partition, m.payload, m.key, m.header_pairs, m.topic] }.sort }
      wanted = sent.map { |m| [m[:partition], m[:payload], m[:key], m[:headers], "t"] }.sort
      puts seen.call == wanted
      GC.stress = true
      found = seen.call
      cut = slices.flat_map { |slice| slice.map(&:key) }.size
      payloads = parts.flat_map(&:payloads).sort
      GC.stress = false
      puts found == wanted, cut == 30 - parts.size
      parts = slices = nil
      compact.call
      # The messages alone are left.
      puts seen.call == wanted && payloads == sent.map { |m| m[:payload] }.sort
    RUBY
  end

  it "of anonymous classes work, and keep their blocks, when nobody else knows of either" do
    expect(lines(<<~'RUBY', deadline: 90)).to eq ["assigned delivered error log revoked statistics", "true", "gone"]
      heard = {}
      # Neither the class nor a block has another name than what the handle itself keeps.
      make = lambda do |kind, *arguments|
        Class.new(kind) { define_method(:whose) { :"mine-#{arguments.size}" } }.new(*arguments)
      end
      consumer = make.call(K::Consumer, { **config, "statistics.interval.ms": 500 })
      producer = make.call(K::Producer, servers)
      Array.new(20) { |i| "block #{i}" }.then do |witness|
        consumer.on_assigned { heard["assigned"] = witness.size }.on_revoked { heard["revoked"] = witness.size }
                .on_log { heard["log"] = witness.size }
        producer.on_delivered { |deliveries| heard["delivered"] = witness.size if deliveries.any?(&:delivered?) }
                .on_error { heard["error"] = witness.size }
      end
      consumer.subscribe("t")
      move.call
      GC.stress = true
      producer.produce(topic: "t", payload: "x").wait(30)
      consumer.poll_batch(1, 0.05)
      GC.stress = false
      Array.new(20).then { |witness| consumer.on_statistics { heard["statistics"] = witness.size } }
      3.times { GC.start; compact.call }
      wait_until(20) { consumer.poll_batch(1, 0.05); heard.key?("assigned") && heard.key?("statistics") }
      broker.down
      wait_until(20) { consumer.poll_batch(1, 0.05); heard.key?("error") && heard.key?("log") }
      broker.up
      mine = [consumer.whose, producer.whose]
      consumer.close
      producer.close
      puts heard.keys.sort.join(" "), mine == %i[mine-1 mine-1] && heard.values.uniq == [20]
      # And nothing of ours keeps them alive afterwards. Something may still lie on the machine's stack.
      made = Array.new(20) { WeakRef.new(make.call(K::Producer, servers).tap(&:close).class) }
      wait_until(10) { GC.start; made.count(&:weakref_alive?) < 10 }
      puts "gone"
    RUBY
  end

  it "are closed by one thread while others use them, many times, with a ClosedHandle for whoever comes too late" do
    expect(lines(<<~'RUBY', deadline: 120)).to eq ["[SwarmNative::ClosedHandle]", "0"]
      topic_full = K::Producer.new(servers)
      topic_full.produce_many(Array.new(300) { |i| { topic: "t", payload: "p#{i}" } }).wait(20)
      topic_full.close
      ends = Queue.new
      # What it ends with, once the handle is closed.
      use = ->(&call) { Thread.new { loop(&call) rescue ends << $!.class } }
      20.times do |round|
        consumer = K::Consumer.new({ **config, "group.id": "g#{round}" }).assign("t" => [0, 1, 2])
        producer = K::Producer.new(servers)
        begun = Queue.new
        threads = [
          use.call { consumer.poll_batch(5, 0.5); begun << 1 },
          use.call { consumer.assignment; begun << 1 },
          use.call { consumer.position; consumer.wakeup; begun << 1 },
          use.call { consumer.on_log { nil }; consumer.pause("t" => [0]); consumer.resume("t" => [0]); begun << 1 },
          use.call { producer.produce(topic: "t", payload: "x"); begun << 1 },
          use.call { producer.produce_many([{ topic: "t", payload: "y" }] * 5); begun << 1 },
          use.call { producer.flush(1); begun << 1 }
        ]
        (10 + round).times { begun.pop }
        [Thread.new { consumer.close(5) }, Thread.new { producer.close(5) }].each(&:join)
        threads.each { |thread| thread.join(20) or raise "stuck: #{thread.backtrace}" }
      end
      puts Array.new(ends.size) { ends.pop }.uniq.inspect, SwarmNative::ForkGuard.live_handles.size
    RUBY
  end
end
