# frozen_string_literal: true

# The swarm: a process of its own, as it would be in production. `ruby swarm.rb SERVERS TOPIC FOLDER NODES`
#
# Its events go to standard output, one JSON object a line. It stops at TERM or INT, and when it is told to.

require "json"
require "swarm_native"
require_relative "consume"
require_relative "orders"

servers, topic, folder, nodes = ARGV
$stdout.sync = true

supervisor = SwarmNative::Supervisor.new(nodes: Integer(nodes), **Demo::POLICY)

supervisor.on(*SwarmNative::Event::NAMES) do |event|
  told = { name: event.name, node_id: event.node_id, pid: event.pid, reason: event.reason, time: event.time }
  $stdout.write("#{JSON.generate(**told, text: event.to_s)}\n")
end

Demo::Orders.listen { supervisor.stop }

supervisor.run do |node|
  Demo::Consume.new(servers, topic, folder, node.id).run(joined: -> { node.ready }, stopping: -> { node.stopping? })
end
