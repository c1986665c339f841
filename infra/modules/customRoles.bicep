// Roles where Azure's own are too wide, from zones.json: a role that has 'custom' there is defined here.
@description('Tells these roles from those of other deployments: names of roles are unique in a tenant.')
param token string

@description('Ids of resource groups in which the roles can be assigned, beside this one: those of hubs that were there.')
param otherGroupIds string[]

var here = resourceGroup().id
var source = any(loadJsonContent('../zones.json'))

resource definitions 'Microsoft.Authorization/roleDefinitions@2022-04-01' = [
  for role in filter(items(source.roles), each => contains(each.value, 'custom')): {
    name: guid(resourceGroup().id, role.key)
    properties: {
      roleName: '${role.value.name} (${token})'
      description: role.value.custom
      type: 'CustomRole'
      permissions: [
        {
          actions: role.value.actions
          notActions: []
          dataActions: role.value.dataActions
          notDataActions: []
        }
      ]
      assignableScopes: concat([here], otherGroupIds)
    }
  }
]
