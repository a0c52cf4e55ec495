# frozen_string_literal: true

# karafka.rb of an app that runs as a swarm: the supervisor forks the nodes, so nothing that the boot has used may be live
# when it does.

require "swarm_native/fork_guard"

class KarafkaApp < Karafka::App
  setup do |config|
    config.kafka = { "bootstrap.servers": "127.0.0.1:9092" }
  end

  # After the boot, before the first node is forked. WaterDrop connects again in each node when it is used there.
  monitor.subscribe("app.initialized") do
    SwarmNative::ForkGuard.remember_places
  end

  monitor.subscribe("swarm.manager.before_fork") do
    SwarmNative::ForkGuard.quiesce { nil }
  end
end
