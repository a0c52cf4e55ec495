# frozen_string_literal: true

# The process of an embedded broker. It loads the compiled library and what its errors need, not the whole gem.
#
#   ruby -I DIRS broker_host.rb PARENT_PID BROKERS TOPIC=PARTITIONS...
#
# It says "ready SERVERS" on its standard output, then answers each line of its standard input with one line: "ok" or
# "failed REASON". It ends when its parent ends, or when its input does, or at "stop".

require_relative "../errors"
require_relative "../library"
require_relative "error"

parent, brokers, *topics = ARGV
$stdout.sync = true

# The terminal's Ctrl-C and a supervisor's TERM to the whole group are not for it: whoever uses it is to end first.
%w[INT TERM HUP QUIT].each { |signal| trap(signal, "IGNORE") }

kafka = SwarmNative::Kafka
exit!(0) unless kafka.send(:native_end_with_parent, Integer(parent))

begin
  cluster = kafka::MockCluster.native_start(Integer(brokers))
  topics.each do |topic|
    name, partitions = topic.split("=")
    cluster.create_topic(name, Integer(partitions))
  end
rescue StandardError => e
  puts "failed #{e.message.inspect}"
  exit!(1)
end

puts "ready #{cluster.bootstrap_servers}"

while (line = $stdin.gets)
  command, *arguments = line.split
  begin
    case command
    when "topic" then cluster.create_topic(arguments[0], Integer(arguments[1]))
    when "topic_error" then cluster.set_topic_error(arguments[0], Integer(arguments[1]))
    when "up" then cluster.set_up(Integer(arguments[0]), true)
    when "down" then cluster.set_up(Integer(arguments[0]), false)
    when "stop" then break
    else raise "no such command: #{line}"
    end
    puts "ok"
  rescue StandardError => e
    puts "failed #{e.message.inspect}"
  end
end

# The cluster has nothing to save.
exit!(0)
