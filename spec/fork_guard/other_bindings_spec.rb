# frozen_string_literal: true

require "spec_helper"
require_relative "../support/other_bindings"

RSpec.describe "SwarmNative::ForkGuard and another binding", :other_bindings, :test_gems, :kafka do
  OtherBindings::NAMES.each do |binding|
    describe binding do
      def out(result)
        expect(result).to be_success, result.inspect
        result.out
      end

      it "refuses 100 of 100 forks while a handle is live, names it, and forks as soon as it is closed" do
        result = run_with(binding, <<~'RUBY')
          KINDS.each do |kind|
            handle = open(kind)
            texts = Array.new(100) { refusal { fork { exit!(1) } }&.message || "forked" }.map { |text| text[/is live: (.*?)\. /, 1] || text }
            handle.close
            puts "#{kind}: #{texts.tally} #{fork_works} #{SwarmNative::ForkGuard.live_handles.inspect}"
          end
        RUBY
        names = { producer: "Rdkafka::Producer rdkafka#producer-N", consumer: "Rdkafka::Consumer rdkafka#consumer-N",
                  admin: "Rdkafka::Admin rdkafka#producer-N", waterdrop: "WaterDrop::Producer id=drop" }
        # The prelude makes the handle, in one place for each kind.
        expected = OtherBindings::KINDS.fetch(binding).map do |kind|
          %(#{kind}: {"#{names.fetch(kind)} (made at prelude:N)"=>100} true []\n)
        end
        expect(out(result).gsub(/(?<=-|prelude:)\d+/, "N").gsub(" => ", "=>")).to eq expected.join
      end

      it "names the line of the program that made a handle, since when it is there, and every other" do
        result = run_with(binding, <<~'RUBY')
          handles = KINDS.map do |kind|
            kind == :waterdrop ? open(kind) : config.public_send(kind)
          end
          live = SwarmNative::ForkGuard.live_handles
          puts live.size, live.count { |handle| handle.made_at == "example.rb:3" }, live.all? { |handle| handle.phase == :open }
          puts live.all? { |handle| Time.now - handle.since < 60 }
          puts refusal { fork { } }.handles == live.map(&:to_s), SwarmNative::ForkGuard.safe?
          puts refusal { SwarmNative::ForkGuard.check! }.message.include?("#{KINDS.size} librdkafka handles are live: ")
          handles.each(&:close)
          puts SwarmNative::ForkGuard.safe?, SwarmNative::ForkGuard.check!.inspect
        RUBY
        count = OtherBindings::KINDS.fetch(binding).size
        expect(out(result).split).to eq [count.to_s, "3", "true", "true", "true", "false", "true", "true", "nil"]
      end

      it "knows of handles that were made before it, though not where" do
        result = run_ruby(<<~'RUBY', library: nil, env: { **test_gems_env, "BINDING" => binding })
          gem ENV.fetch("BINDING")
          require "rdkafka"
          handle = Rdkafka::Config.new("bootstrap.servers": "127.0.0.1:1").producer
          require "swarm_native/fork_guard"
          begin
            fork { exit! }
          rescue SwarmNative::ForkRefused => e
            puts e.handles
          end
          handle.close
          Process.wait(fork { exit!(5) })
          puts $?.exitstatus
        RUBY
        # Between what librdkafka logs of the broker that it does not find.
        expect(out(result).lines.grep_v(/ERROR -- : rdkafka/).join).to match(/\ARdkafka::Producer rdkafka#producer-\d+\n5\n\z/)
      end

      it "waits for a handle that another thread is closing" do
        result = run_with(binding, <<~'RUBY')
          SwarmNative::ForkGuard.gate_timeout = 20
          KINDS.each do |kind|
            10.times do
              handle = open(kind)
              closer = Thread.new { handle.close }
              # Not before the close has begun: then the handle is just live.
              wait_until { SwarmNative::ForkGuard.live_handles.none? { |live| live.phase == :open } }
              puts fork_works
              closer.join
            end
          end
        RUBY
        expect(out(result).split.tally).to eq("true" => 10 * OtherBindings::KINDS.fetch(binding).size)
      end

      it "leaves nobody waiting in a child for an answer that comes to its parent, if at all" do
        result = run_with(binding, <<~'RUBY')
          nowhere = Rdkafka::Config.new("bootstrap.servers": "127.0.0.1:1").producer
          answered = open(:producer).then { |producer| [producer, producer.produce(topic: TOPIC, payload: "x")] }
          answered[1].wait
          # One from before the guard had anything to do with it, and one from afterwards.
          answers = [nowhere.produce(topic: "t", payload: "x")]
          SwarmNative::ForkGuard.bypass { Process.wait(fork { exit! }) }
          answers << nowhere.produce(topic: "t", payload: "y")
          pid = SwarmNative::ForkGuard.bypass do
            fork do
              answers.each do |answer|
                answer.wait
                exit!(1)
              rescue SwarmNative::StaleHandle => e
                exit!(2) unless e.message.include?("DeliveryHandle belongs to process #{Process.ppid}, and its answer never")
              end
              # What had come before the fork is there, and so is what is asked for in the child.
              exit!(3) unless answered[1].wait.offset
              exit!(4) unless open(:producer)
              exit!(5)
            end
          end
          Process.wait(pid)
          puts $?.exitstatus
          $stdout.flush
          exit!(0) # a close would wait for messages that cannot be delivered
        RUBY
        expect(out(result)).to eq "5\n"
      end

      it "lets children of forks that the user wanted neither use nor harm what they inherit: 1,000 of 1,000" do
        result = run_with(binding, <<~'RUBY', deadline: 480)
          USES = {
            Rdkafka::Producer => ->(handle) { handle.produce(topic: TOPIC, payload: "lost") },
            Rdkafka::Consumer => ->(handle) { handle.poll(100) },
            Rdkafka::Admin => ->(handle) { handle.create_topic("other", 1, 1) }
          }
          $handles = KINDS.map { |kind| open(kind) }

          # What a child does: use, close, drop and collect, in every combination.
          def child(what)
            own, others = $handles.partition { |handle| USES.key?(handle.class) }
            if what[0] == 1
              own.each do |handle|
                USES.fetch(handle.class).call(handle)
                exit!(10)
              rescue SwarmNative::StaleHandle => e
                exit!(11) unless e.message.include?("belongs to process #{Process.ppid}, which made it")
              end
              others.each do |handle|
                handle.produce_sync(topic: TOPIC, payload: "lost")
                exit!(12)
              rescue WaterDrop::Errors::ProducerUsedInParentProcess
              end
            end
            $handles.each(&:close) if what[1] == 1
            if what[2] == 1
              own = others = nil
              $handles.clear
              GC.start
              GC.start
            end
            # Leaves as any program does, finalisers included.
          end

          ends = Hash.new(0)
          modes = %i[raise warn off]
          $stderr = File.open(File::NULL, "w")
          1000.times.each_slice(4) do |slice|
            pids = slice.map do |i|
              SwarmNative::ForkGuard.mode = modes[i % 3]
              start = -> { fork { child(i) } }
              i % 3 == 0 ? SwarmNative::ForkGuard.bypass(&start) : start.call
            end
            pids.each { |pid| ends[Process.wait2(pid)[1].to_s.sub(/pid \d+ /, "")] += 1 }
          end
          SwarmNative::ForkGuard.mode = :raise
          puts ends.inspect
          # The parent's are as good as before.
          puts $handles.map { |handle| handle.is_a?(Rdkafka::Producer) && handle.produce(topic: TOPIC, payload: "y").wait.offset }
            .compact.size
          $handles.each(&:close)
          puts fork_works
        RUBY
        expect(out(result).gsub(" => ", "=>").lines(chomp: true))
          .to eq ['{"exit 0"=>1000}', OtherBindings::KINDS.fetch(binding).size.to_s, "true"]
      end
    end
  end
end
