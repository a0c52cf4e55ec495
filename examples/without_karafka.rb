# Without Karafka: a swarm of two processes, each with three worker threads, that bills orders. Ctrl-C ends it.
require "swarm_native"

broker = SwarmNative::Kafka::EmbeddedBroker.start(topics: { "orders" => 6, "orders.dead" => 1 })
kafka = { "bootstrap.servers": broker.bootstrap_servers }

producer = SwarmNative::Kafka::Producer.new(kafka)
producer.produce_many((0...60).map { |i| { topic: "orders", payload: i == 13 ? "" : i.to_s } })
producer.close

# It makes no handle until it runs, so it can be made before the fork.
billing = SwarmNative::Kafka::Processor.new(
  config: { **kafka, "group.id": "billing", "group.protocol": "consumer", "auto.offset.reset": "earliest" },
  topics: "orders", concurrency: 3, max_wait: 0.1, backoff_min: 0.2,
  dead_letter: "orders.dead", max_attempts: 2
)
billing.on(:consumed) { |event| puts "done: #{event.topic}/#{event.partition} #{event.size} messages" }

SwarmNative::Supervisor.new(nodes: 2).run do |node|
  billing.run(node) do |batch|
    batch.each { |message| puts "node #{node.id} bills order #{Integer(message.payload, 10)}" }
  end
end
