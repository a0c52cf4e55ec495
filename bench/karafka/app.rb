# frozen_string_literal: true

# The application of the benchmark: notes each message that it consumes with its partition and the time.
$stdout.sync = true
gem "karafka"
require "karafka"
require "swarm_native/karafka" unless ENV["APP_PLAIN"]

def say(*words) = $stdout.syswrite("#{words.join(" ")} #{Process.clock_gettime(Process::CLOCK_MONOTONIC)}\n")

class Consumer < Karafka::BaseConsumer
  def consume
    say "consumed", Process.pid, messages.metadata.partition, messages.size
  end
end

class App < Karafka::App
  setup do |config|
    config.kafka = {
      "bootstrap.servers": ENV.fetch("APP_SERVERS"), "group.instance.id": "bench", "session.timeout.ms": 45_000,
      "auto.offset.reset": "latest"
    }
    config.client_id = "bench"
    config.max_wait_time = 100
    config.shutdown_timeout = 10_000
    config.swarm.nodes = Integer(ENV.fetch("APP_NODES"))
    config.respond_to?(:group_id=) ? config.group_id = ENV.fetch("APP_GROUP") : nil
    config.logger = Logger.new(File::NULL)
  end
  routes.draw { topic(ENV.fetch("APP_TOPIC")) { consumer Consumer } }
end

unless ENV["APP_PLAIN"]
  SwarmNative.logger = nil
  # Nodes are killed every few seconds here: no crash loop, for which a replacement would wait.
  SwarmNative::Karafka.setup { |config| config.stable_after = Float(ENV.fetch("APP_STABLE_AFTER")) }
end
Karafka.monitor.subscribe("swarm.manager.before_fork") { say "forking", Process.pid }
Karafka.monitor.subscribe("swarm.node.after_fork") { say "booting", Process.pid }
Karafka.monitor.subscribe("connection.listener.before_fetch_loop") { say "fetching", Process.pid }

ENV["KARAFKA_BOOT_FILE"] = "false"
ARGV.replace(["swarm"])
Karafka::Cli.start
