require "swarm_native"
broker = SwarmNative::Kafka::EmbeddedBroker.start(topics: { "orders" => 6 })
kafka = { "bootstrap.servers": broker.bootstrap_servers }
group = { "group.id": "bills", "auto.offset.reset": "earliest", "group.protocol": "consumer" }
SwarmNative::Kafka::Producer.new(kafka).tap { |p| 60.times { p.produce(topic: "orders", payload: _1.to_s) } }.close
SwarmNative::Supervisor.new(nodes: 2).run do |node|
  consumer = SwarmNative::Kafka::Consumer.new(kafka, **group).subscribe("orders")
  consumer.poll_batch(10, 0.5).each { |message| puts "node #{node.id}: order #{message.payload}" } until node.stopping?
  consumer.close
end
