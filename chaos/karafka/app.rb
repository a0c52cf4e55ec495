# frozen_string_literal: true

# The application that is struck: each node writes down what it has consumed, before Karafka marks it as consumed.

gem "karafka"
require "karafka"
require "swarm_native/karafka"

class Consumer < Karafka::BaseConsumer
  LEDGER = Hash.new { |files, pid| files[pid] = File.open("consumed.#{pid}", "a") }

  def consume
    LEDGER[Process.pid].syswrite("#{messages.map(&:raw_payload).join("\n")}\n")
  end
end

class App < Karafka::App
  setup do |config|
    config.kafka = {
      "bootstrap.servers": ENV.fetch("APP_SERVERS"), "group.instance.id": "chaos", "session.timeout.ms": 10_000,
      "auto.offset.reset": "earliest", "auto.commit.interval.ms": 1_000
    }
    config.client_id = "chaos"
    config.max_wait_time = 100
    config.shutdown_timeout = 5_000
    config.swarm.nodes = Integer(ENV.fetch("APP_NODES"))
    config.internal.swarm.liveness_interval = 1_000
    config.internal.swarm.node_report_timeout = 3_000
    config.group_id = ENV.fetch("APP_TOPIC") if config.respond_to?(:group_id=)
    config.logger = Logger.new("swarm.log")
  end
  routes.draw { topic(ENV.fetch("APP_TOPIC")) { consumer Consumer } }
end

# Nodes die all the time here, and none of these deaths is a crash loop.
SwarmNative::Karafka.setup do |config|
  config.restart_backoff = 0.05..0.5
  config.stable_after = 0.5
  config.crash_loop_limit = 1_000_000
end

def note(*words) = File.write("events", "#{words.join(" ")}\n", mode: "a")
Karafka.monitor.subscribe("swarm_native.node_exited") { |event| note "exited", event[:reason] }
Karafka.monitor.subscribe("error.occurred") { |event| note "error", event[:type], event[:error].class }

ENV["KARAFKA_BOOT_FILE"] = "false"
ARGV.replace(["swarm"])
Karafka::Cli.start
