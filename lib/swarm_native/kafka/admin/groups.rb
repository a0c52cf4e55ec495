# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Admin
      # Consumer groups and their offsets.
      module Groups
        # @param timeout [Float] seconds
        # @return [Hash{String => Group}] all groups of the cluster
        # @raise [Kafka::Error] also when one broker of several has not answered: its groups would be missing
        def groups(timeout: TIMEOUT)
          Kafka.wait { native_groups(timeout) }.transform_values { |group| Group.new(**group).freeze }
        end

        # @param names [Array<String>]
        # @param timeout [Float] seconds
        # @return [Hash{String => GroupDescription, Kafka::Error}] a group that nobody knows is "dead"
        def describe_groups(*names, timeout: TIMEOUT)
          list = names("group", names)
          each_value(Kafka.wait { native_describe_groups(list, timeout) }) do |group|
            members = group.fetch(:members).map { |member| Member.new(**member).freeze }
            GroupDescription.new(**group, members: members.freeze).freeze
          end
        end

        # @param name [String]
        # @param timeout [Float] seconds
        # @return [GroupDescription]
        # @raise [Kafka::Error]
        def describe_group(name, timeout: TIMEOUT)
          only(describe_groups(name, timeout: timeout))
        end

        # @param names [Array<String>] groups without members
        # @param timeout [Float] seconds
        # @return [Hash{String => true, Kafka::Error}] such as `:non_empty_group` and `:group_id_not_found`
        def delete_groups(*names, timeout: TIMEOUT)
          list = names("group", names)
          Kafka.wait { native_delete_groups(list, timeout) }
        end

        # @param group [String]
        # @param partitions [Hash{String => Array<Integer>}, nil] nil: all that the group has committed
        # @param timeout [Float] seconds
        # @return [Hash{String => Hash{Integer => Integer, Kafka::Error}}] without those that have nothing committed
        # @raise [Kafka::Error]
        def group_offsets(group, partitions = nil, timeout: TIMEOUT)
          list = partitions && places(partitions)
          Kafka.wait { native_group_offsets(group, list, timeout) }
        end

        # Commits for a group that has no members.
        #
        # @param group [String]
        # @param offsets [Hash{String => Hash{Integer => Integer}}] topic, partition, next offset
        # @param timeout [Float] seconds
        # @return [Hash{String => Hash{Integer => true, Kafka::Error}}]
        # @raise [Kafka::Error]
        def alter_group_offsets(group, offsets, timeout: TIMEOUT)
          list = places(offsets)
          Kafka.wait { native_alter_group_offsets(group, list, timeout) }
        end

        # Forgets what a group has committed; it must not consume these topics now.
        #
        # @param group [String]
        # @param partitions [Hash{String => Array<Integer>}]
        # @param timeout [Float] seconds
        # @return [Hash{String => Hash{Integer => true, Kafka::Error}}]
        # @raise [Kafka::Error]
        def delete_group_offsets(group, partitions, timeout: TIMEOUT)
          list = places(partitions)
          Kafka.wait { native_delete_group_offsets(group, list, timeout) }
        end
      end
    end
  end
end
