# frozen_string_literal: true

# A light Karafka topic beside a busy one in the same process, plain Karafka and the drop-in in turns, on a real Kafka:
# messages of the light one a second, what is left to the busy one, the time of single light messages, and how many
# messages a process that does nothing else consumes a second. And the same two topics by our own client.
#
#   ROUNDS=5 bin/bench karafka_busy

require "swarm_native"
require_relative "support"
require_relative "../spec/support/real_kafka"
require_relative "../spec/support/test_gems"

# One process each time, and what it says.
module BusyKarafka
  APP = File.join(__dir__, "karafka", "busy_app.rb")
  PROCESSOR = File.join(__dir__, "karafka", "processor_app.rb")
  LIGHT = Bench.times(200_000, 20_000)
  SECONDS = Bench.times(10, 3)

  Run = Struct.new(:light, :busy, :work, :p50, :p99, :total)

  class << self
    # @return [Run]
    def run(kafka, app: APP, **more)
      output, input = IO.pipe
      environment = { "APP_SERVERS" => kafka.bootstrap_servers, "APP_SECONDS" => SECONDS.to_s, "APP_LIGHT" => "light",
                      "APP_BUSY" => "busy", "APP_GROUP" => "group-#{rand(1 << 40)}", "KARAFKA_ENV" => "production",
                      "GEM_PATH" => [TestGems::HOME, ENV["GEM_PATH"].to_s].join(":"), **more.transform_keys(&:to_s) }
      pid = spawn(environment, RbConfig.ruby, app, out: input, in: File::NULL)
      input.close
      line = output.each_line.find { |it| it.start_with?("rates ") } || raise("the application said nothing")
      Run.new(*line.split.drop(1).map(&:to_f))
    ensure
      Process.wait(pid)
    end

    # @return [Array<Array<Run>>] with the drop-in, plain
    def rounds(kafka, count, **more)
      runs = Array.new(count) { [run(kafka, **more), run(kafka, APP_PLAIN: "1", **more)] }
      runs.transpose
    end

    # By our own client.
    def processor(kafka) = run(kafka, app: PROCESSOR, APP_COUNT: LIGHT.to_s)

    def fill(kafka)
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": kafka.bootstrap_servers)
      LIGHT.times { producer.produce(topic: "light", payload: "x" * 100) }
      5_000.times { producer.produce(topic: "busy", payload: "x") }
      producer.close
    end

    # As {run}, while a message is produced each 20 ms, which tells when; to a topic of their own each time:
    # what a slower run has left is none of the next one's.
    def singly(kafka, **more)
      topic = "single-#{rand(1 << 40)}"
      producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 0)
      stop = false
      producing = Thread.new do
        until stop
          producer.produce(topic: topic, payload: Bench.now.to_s)
          sleep 0.02
        end
      end
      run(kafka, APP_LIGHT: topic, APP_TIMES: "1", **more)
    ensure
      stop = true
      producing.join
      producer.close
    end
  end
end

unless RealKafka.available? && TestGems.available?
  puts "  left out: it needs Java, Maven and the gems of #{TestGems::SOURCE}"
  exit
end

TestGems.ensure_installed
RealKafka.start(partitions: 1) do |kafka|
  rounds = Integer(ENV.fetch("ROUNDS", Bench.times(5, 1)))
  median = ->(runs, what) { Bench.percentile(runs.map(&what), 50) }
  BusyKarafka.fill(kafka)
  ours, plain = BusyKarafka.rounds(kafka, rounds)
  goal = RUBY_VERSION < "3.3" ? 5 : 300
  Bench.report("light messages a second beside a busy topic (goal #{goal}x plain)", "/s", median.call(ours, :light),
               { "plain Karafka" => median.call(plain, :light) })
  Bench.report("busy messages a second (goal 0.95x)", "/s", median.call(ours, :busy),
               { "plain Karafka" => median.call(plain, :busy) })
  Bench.report("work that the busy one does a second (goal 0.9x)", "/s", median.call(ours, :work),
               { "plain Karafka" => median.call(plain, :work) })
  own = Array.new(rounds) { BusyKarafka.processor(kafka) }
  Bench.report("a light message beside a busy topic, by Processor (goal: no more than with the drop-in)", "us",
               1_000_000 / median.call(own, :light), { "drop-in" => 1_000_000 / median.call(ours, :light) }, ratio_goal: 1.0)
  Bench.report("work that the busy one does a second beside it", "/s", median.call(own, :work),
               { "plain Karafka" => median.call(plain, :work) })
  idle, plainly = BusyKarafka.rounds(kafka, rounds, APP_IDLE: "1", APP_COUNT: BusyKarafka::LIGHT.to_s)
  # Per message, since goals are upper limits.
  per_message = ->(runs) { 1_000_000 / median.call(runs, :light) }
  Bench.report("a light message where nothing else runs", "us", per_message.call(idle),
               { "plain Karafka" => per_message.call(plainly) }, ratio_goal: 1.0)
  beside, plainly, alone = Array.new([rounds / 2, 1].max) do
    [{}, { APP_PLAIN: "1" }, { APP_IDLE: "1" }].map { |more| BusyKarafka.singly(kafka, **more) }
  end.transpose
  %i[p50 p99].each do |percentile|
    Bench.report("time of a single light message, #{percentile}", "ms", median.call(beside, percentile),
                 { "without the busy one" => median.call(alone, percentile), "plain Karafka" => median.call(plainly, percentile) })
  end
end
