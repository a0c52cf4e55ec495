# frozen_string_literal: true

# The same work without a swarm. `ruby one_process.rb SERVERS TOPIC FOLDER`; it stops when it is told to.

require "swarm_native"
require_relative "consume"
require_relative "orders"

servers, topic, folder = ARGV
# A Ctrl-C reaches everybody in the terminal; the demo tells this program to stop.
trap("INT", "IGNORE")
stopping = false
Demo::Orders.listen { stopping = true }

Demo::Consume.new(servers, topic, folder, 0).run(joined: -> {}, stopping: -> { stopping })
