# frozen_string_literal: true

# Our Kafka client beside karafka-rdkafka, WaterDrop, a plain program that knows librdkafka only and Kafka's own tools, on
# a real Apache Kafka on the same machine. Each measurement is a process of its own; what is compared runs one after the
# other.
#
#   MESSAGES=1000000 bin/bench kafka

require "json"
require "open3"
require "rbconfig"
require_relative "support"
require_relative "../spec/support/real_kafka"
require_relative "../spec/support/test_gems"
require_relative "kafka/perf_tools"

COUNT = Integer(ENV["MESSAGES"] || Bench.times(1_000_000, 20_000))
# Theirs take so long that a tenth says as much.
FEWER = COUNT / 10
# Beside a busy thread each answer of theirs takes a timeslice.
FEW = Bench.times(75, 5)
LATENCIES = Bench.times(300, 20)
ROUNDS = Bench.times(6, 1)
CLIENT = File.join(__dir__, "kafka", "client.rb")

TestGems.ensure_installed

# @return [Hash, nil] nil where that library has no such call
def measure(library, what, servers, topic, count, busy: false)
  environment = library == "ours" ? {} : { "GEM_PATH" => [TestGems::HOME, ENV["GEM_PATH"].to_s].join(":") }
  output, status = Open3.capture2(environment, RbConfig.ruby, CLIENT, library, what, servers, topic, count.to_s,
                                  *("busy" if busy))
  raise "#{library} #{what} failed" unless status.success?

  JSON.parse(output.lines.last, symbolize_names: true)
end

def plain(what, servers, topic, count)
  @plain ||= begin
    target = ENV.fetch("CARGO_TARGET_DIR", File.join(Bench::ROOT, "target"))
    system("cargo", "build", "--quiet", "--release", "-p", "swarm_kafka", "--example", "plain", chdir: Bench::ROOT) or
      raise "building the plain program failed"
    File.join(target, "release", "examples", "plain")
  end
  output, status = Open3.capture2(@plain, what, servers, topic, count.to_s)
  raise "plain #{what} failed" unless status.success?

  { seconds: output.to_f, count: count }
end

# @return [Float] microseconds a message
def each(result) = result[:seconds] / result[:count] * 1_000_000

# One figure against several others, each with a goal of its own.
def compare(name, ours, others)
  others.each do |other, (result, goal)|
    next unless result

    Bench.report("#{name} against #{other}", "us a message", each(ours), { other => each(result) }, ratio_goal: goal)
  end
end

def costs(name, ours, theirs)
  { "objects" => :objects, "CPU seconds" => :cpu }.each do |unit, key|
    million = ->(result) { result[key] * 1_000_000.0 / result[:count] }
    others = theirs ? { "karafka-rdkafka" => million.(theirs) } : {}
    Bench.report("#{name}, a million messages", unit, million.(ours), others)
  end
end

# A broker that has just been started is slow, and whoever comes first would pay for it: they take turns, and the first
# round does not count.
# @param what [String] acknowledged or delivered
# @return [Array<Array<Float>>] milliseconds of ours, and of theirs
def in_turns(what, servers)
  samples = { "ours" => [], "theirs" => [] }
  (ROUNDS + 1).times do |round|
    (round.even? ? samples.keys : samples.keys.reverse).each do |library|
      some = milliseconds(library, what, servers, LATENCIES)
      samples[library].concat(some) if round.positive?
    end
  end
  samples.values
end

def milliseconds(library, what, servers, count, **more)
  measure(library, what, servers, "#{what}-#{library}", count, **more)[:samples].map { |seconds| seconds * 1000 }
end

# Beside nothing, then beside a busy thread.
def report_latency(name, what, servers)
  idle, others = in_turns(what, servers)
  Bench.report_samples(name, "ms", idle, { "karafka-rdkafka" => others }, 50 => { ratio_goal: 1.0 }, 99 => { ratio_goal: 1.0 })
  busy = milliseconds("ours", what, servers, LATENCIES, busy: true)
  others = milliseconds("theirs", what, servers, FEW, busy: true)
  Bench.report_samples("#{name} beside a busy thread", "ms", busy, { "karafka-rdkafka" => others },
                       50 => { goal: Bench.percentile(idle, 50) + 1.0 })
end

RealKafka.start(partitions: 3) do |kafka|
  servers = kafka.bootstrap_servers
  plain("produce", servers, "warm", 1000)

  plain = plain("produce", servers, "plain", COUNT)
  many = measure("ours", "produce_many", servers, "many", COUNT)
  compare("produce_many", many, "a plain program" => [plain, 2.0],
                                "WaterDrop" => [measure("theirs", "produce_many", servers, "waterdrop", FEWER), 1 / 20.0])
  single = measure("ours", "produce", servers, "single", COUNT)
  theirs = measure("theirs", "produce", servers, "theirs", FEWER)
  compare("produce", single, "karafka-rdkafka" => [theirs, 1 / 8.0])
  costs("produce", single, theirs)

  topic = "many"
  ours = measure("ours", "poll_batch", servers, topic, COUNT)
  poll = measure("theirs", "poll", servers, topic, COUNT)
  compare("poll_batch", ours, "a plain program" => [plain("consume", servers, topic, COUNT), 2.5], "poll" => [poll, 1 / 6.0],
                              "poll_batch(100)" => [measure("theirs", "poll_batch", servers, topic, COUNT), 1 / 4.0],
                              "poll_nb" => [measure("theirs", "poll_nb", servers, topic, COUNT), nil])
  costs("poll_batch", ours, poll)
  compare("poll", measure("ours", "poll", servers, topic, COUNT), "poll" => [poll, nil])
  compare("Processor", measure("ours", "processor", servers, topic, COUNT), "poll" => [poll, nil])
  compare("poll_batch beside a busy thread", measure("ours", "poll_batch", servers, topic, COUNT, busy: true),
          "poll" => [measure("theirs", "poll", servers, topic, COUNT, busy: true), 1 / 100.0],
          "poll_nb" => [measure("theirs", "poll_nb", servers, topic, COUNT, busy: true), 1 / 2.0])

  report_latency("one acknowledged message", "acknowledged", servers)
  report_latency("one message from produce to consume", "delivered", servers)

  tools = PerfTools.new(servers)
  { "produce_many" => [many, tools.produce("tools", COUNT), "ProducerPerformance"],
    "poll_batch" => [ours, tools.consume(topic, COUNT), "ConsumerPerformance"] }.each do |name, (result, rate, tool)|
    Bench.report("#{name} against Kafka's tool", "us a message", each(result), { tool => 1_000_000 / rate })
  end
end
